"""What `npu-smi info` says, on outputs of real machines: test/data/npu_smi, most chips left out."""

import pathlib

import pytest

from common.ascend import npu_smi
from common.errors import UserError

OUTPUTS = pathlib.Path(__file__).resolve().parents[2] / 'data' / 'npu_smi'


def output(name):
    return (OUTPUTS / (name + '.txt')).read_text()


@pytest.mark.parametrize(
    'name, chips',
    [
        ('310', [(0, '310', 'OK')]),
        ('310P3', [(1, '310P3', 'OK'), (1, '310P3', 'OK')]),
        ('310B4', [(0, '310B4', 'Alarm')]),
        ('910A', [(0, '910A', 'OK'), (1, '910A', 'Warning')]),
        ('910A_newer', [(0, '910A', 'OK')]),
        ('910B3', [(0, '910B3', 'OK'), (1, '910B3', 'OK')]),
        ('910_93', [(0, 'Ascend910', 'OK'), (0, 'Ascend910', 'OK')]),
    ],
)
def test_chips_of_a_table(name, chips):
    assert npu_smi.parse(output(name)) == chips


def test_no_table():
    assert npu_smi.parse('DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)') == []


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(text, status): a machine whose npu-smi prints this."""

    def make(text, status=0):
        tool = tmp_path / 'npu-smi'
        tool.write_text(
            '#!/bin/sh\n[ "$*" = info ] || exit 9\ncat <<\'END\'\n%s\nEND\nexit %d\n'
            % (text, status)
        )
        tool.chmod(0o755)
        monkeypatch.setenv('PATH', '%s:/bin:/usr/bin' % tmp_path)

    return make


@pytest.mark.parametrize(
    'table, name',
    [
        (output('310'), 'Ascend310'),
        (output('310P3'), 'Ascend310P3'),
        (output('310B4'), 'Ascend310B4'),
        (output('910A'), 'Ascend910A'),
        (output('910B3').replace('910B3 ', 'Ascend910B3'), 'Ascend910B3'),
    ],
)
def test_the_name_that_atc_takes(machine, table, name):
    machine(table)
    assert npu_smi.soc_version() == name


@pytest.mark.parametrize(
    'table, status, message',
    [
        (output('910_93'), 0, 'calls the chip Ascend910, which several are; give --soc_version'),
        (output('310') + output('310P3'), 0, 'lists Ascend310 and Ascend310P3; give'),
        ('no table', 0, 'lists no chip; give --soc_version'),
        ('dcmi module initialize failed. ret is -8005', 1, 'ret is -8005; reinstall driver'),
    ],
)
def test_a_chip_that_is_not_clear(machine, table, status, message):
    machine(table, status)
    with pytest.raises(UserError) as error:
        npu_smi.soc_version()
    assert message in str(error.value) and '--soc_version' in str(error.value)


def test_no_driver(monkeypatch):
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(UserError, match='npu-smi is not on PATH.*give --soc_version'):
        npu_smi.soc_version()
