"""Ranks that do not train the same thing are named at the start."""

import dataclasses
import json
import runpy
import sys
import types

import pytest

from common.errors import UserError
from common.training import agreement


@pytest.fixture
def others(monkeypatch):
    """others(change): a second rank sends what this one does, after change(its content)."""

    def make(change):
        def gather(device, content):
            other = json.loads(json.dumps(content))
            change(other)
            return [content, other]

        monkeypatch.setattr(agreement, 'gather_objects', gather)

    return make


DATA = {'train': 'abc', 'test': 'def'}


def test_equal_ranks_agree_and_get_the_start_of_rank_0(others, configured):
    others(lambda other: other.update(start={}))
    _, cfg = configured()
    assert agreement.agree(None, cfg, DATA, {'step': 7}) == {'step': 7}


@pytest.mark.parametrize(
    'key', ['seed', 'learning_rate', 'data: train', 'code', 'tensorflow', 'numpy', 'opencv']
)
def test_a_difference_names_rank_key_and_both_values(others, configured, key):
    others(lambda other: other['facts'].update({key: 'another'}))
    _, cfg = configured()
    with pytest.raises(UserError, match='rank 1 has %s another, rank 0 has ' % key):
        agreement.agree(None, cfg, DATA, {})


def test_code_is_that_of_common_and_of_the_model(others, configured, tmp_path, monkeypatch):
    for name in ('one', 'two', 'three'):
        (tmp_path / name / 'configs').mkdir(parents=True)
        (tmp_path / name / 'config.py').write_text(
            'from wideresnet_tf.config import WideResNetConfig\n'
            'class Config(WideResNetConfig): pass\n'
        )
        (tmp_path / name / 'model.py').write_text('width = %d' % (name == 'three'))
    facts = []
    others(lambda other: facts.append(other['facts']))
    for name in ('one', 'two', 'three'):
        config_class = runpy.run_path(str(tmp_path / name / 'config.py'), run_name=name)['Config']
        monkeypatch.setitem(
            sys.modules, name, types.SimpleNamespace(__file__=str(tmp_path / name / 'config.py'))
        )
        agreement.agree(None, config_class(), DATA, {})
    one, two, three = (fact['code'] for fact in facts)
    assert one == two != three


def test_folders_may_differ(others, configured):
    _, cfg = configured()
    facts = []
    others(lambda other: facts.append(other['facts']))
    agreement.agree(None, dataclasses.replace(cfg, data_path='/elsewhere'), DATA, {})
    agreement.agree(None, cfg, DATA, {})
    assert facts[0] == facts[1] and facts[0]['seed'] == '1'


def test_a_mistake_that_rank_0_found_ends_every_rank_and_is_said_once(others, configured):
    others(lambda other: None)
    _, cfg = configured()
    mistake = {'error': 'the folder is in use'}
    with pytest.raises(UserError, match='the folder is in use'):
        agreement.agree(types.SimpleNamespace(is_chief=True), cfg, DATA, mistake)
    with pytest.raises(SystemExit) as ended:
        agreement.agree(types.SimpleNamespace(is_chief=False), cfg, DATA, mistake)
    assert ended.value.code == 2
