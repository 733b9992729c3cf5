"""Files that are no rank tables; test/campaign changes values and bytes of whole ones."""

import json

import pytest
from example_tables import concise

from common.errors import UserError
from hccl import rank_table


@pytest.mark.parametrize(
    'text',
    ['', '[]', '1', '{}', '[' * 100000, '{"a":' * 100000, '\ufeff{}', '{"version": ["1.0"]}'],
)
def test_files_that_are_not_tables(tmp_path, text):
    path = tmp_path / 'table.json'
    path.write_text(text)
    with pytest.raises(UserError):
        rank_table.load(path)


def test_any_depth(tmp_path):
    path = tmp_path / 'table.json'
    for depth in list(range(800, 1005)) + [100000]:
        path.write_text('{"a":' + '[' * depth + '1' + ']' * depth + '}')
        with pytest.raises(UserError):
            rank_table.load(path)


@pytest.mark.parametrize(
    'key, value, message',
    [
        ('version', ['1.0'], 'version: EI0004 .* expected a string, found a list'),
        ('device_id', ['0'], r'device\[0\].device_id: EI0004 .* expected a string, found a list'),
        ('device_ip', {}, r'device\[0\].device_ip: EI0004 .* expected a string, found a mapping'),
    ],
)
def test_lists_where_a_string_belongs(tmp_path, key, value, message):
    table = concise(1, 2)
    (table if key == 'version' else table['server_list'][0]['device'][0])[key] = value
    (tmp_path / 'table.json').write_text(json.dumps(table))
    with pytest.raises(UserError, match=message):
        rank_table.load(tmp_path / 'table.json')
