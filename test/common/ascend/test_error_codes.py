"""Fixes for the error codes in a log."""

from common.ascend import error_codes


def test_each_code_of_a_log_once_in_the_order_of_the_log():
    log = 'x EI0006: socket\nPREI0002 EI00061 \nEI0006 again, then [EJ0001]\n EI9999'
    assert [line.split(':')[0] for line in error_codes.find_fixes(log)] == ['EI0006', 'EJ0001']
