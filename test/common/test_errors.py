"""What a command says of a mistake in its words."""

import importlib
import pathlib

import pytest

from common import errors

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMANDS = sorted(
    '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    for folder in (
        'common',
        'hccl',
        'offline_inference',
        'wideresnet_tf',
        'xception_tf',
        'resnest_tf',
    )
    for path in (ROOT / folder).rglob('*.py')
    if '@entry_point\ndef main(a' in path.read_text()
)


def test_there_are_commands():
    assert {'common.benchmark', 'hccl.rank_table', 'offline_inference.run'} < set(COMMANDS)


@pytest.mark.parametrize('name', COMMANDS)
def test_a_wrong_flag_is_one_line(name, capsys):
    with pytest.raises(SystemExit) as end:
        importlib.import_module(name).main(['--no_such_flag', '1'])
    said = capsys.readouterr()
    assert end.value.code == 2
    assert said.err.startswith('error: ') and said.err.count('\n') == 1, said.err
    assert not said.out


@pytest.mark.parametrize(
    'words, message',
    [
        (['train', '--round', '2'], r"--round 2 is unknown; did you mean '--rounds'\?"),
        (['trains'], r"what: trains is not legal; legal: train, input; did you mean 'train'\?"),
        (['train', '--rounds', 'two'], "--rounds: invalid int value: 'two'"),
        ([], 'required: what'),
    ],
)
def test_a_mistake_names_the_nearest(words, message):
    parser = errors.Parser()
    parser.add_argument('what', choices=['train', 'input'])
    parser.add_argument('--rounds', type=int)
    with pytest.raises(errors.UserError, match=message + '.*; --help lists the flags'):
        parser.parse_args(words)
