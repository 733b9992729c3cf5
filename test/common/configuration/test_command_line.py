"""The pages of --help, and the flags of a run script that are no fields."""

import dataclasses
import re

import pytest
from example_config import Example, parse

from common.configuration import command_line


@pytest.fixture
def page(capsys):
    """page(words of --help): its lines."""

    def show(*words):
        with pytest.raises(SystemExit) as stop:
            parse('--help', *words)
        assert not stop.value.code
        return capsys.readouterr().out.splitlines()

    return show


def test_help_is_one_page_that_names_every_flag(page):
    lines = page()
    assert len(lines) < 70 and max(map(len, lines)) <= 110
    for field in dataclasses.fields(Example):
        assert re.search(r'\b%s\b' % field.name, '\n'.join(lines)), field.name
    assert any(line.startswith('Train: ') for line in lines)


def test_help_describes_each_group_in_words(page):
    every = '\n'.join(page('all'))
    for field in dataclasses.fields(Example):
        assert re.search('--%s[ ,]' % field.name, every), field.name
    assert '--depths' in every and 'layers' in every and 'a whole number above 0' in every
    assert page('npu')[1] == 'Ascend NPU' and not any('--seed' in line for line in page('npu'))
    assert page('learning')[1:3] == [
        'Learning rate',
        '  --learning_rate  a number above 0; default: 0.1',
    ]


def test_flags_of_the_other_commands_of_a_run_script(monkeypatch, capsys):
    options, cfg = command_line.parse(Example, ['--show_batch=3', '--depth', '16'])
    assert options.show_batch == 3 and cfg.depth == 16
    words = ['--predict', 'a.png', 'b', '--class_names', 'f', '--model_path', 'c']
    options, cfg = command_line.parse(Example, words)
    assert (options.predict, options.class_names, cfg.model_path) == (['a.png', 'b'], 'f', 'c')
    monkeypatch.setattr('sys.argv', ['run.py', '--predct', 'a.png'])
    with pytest.raises(SystemExit):
        command_line.check(Example)
    assert "did you mean 'predict'" in capsys.readouterr().err
