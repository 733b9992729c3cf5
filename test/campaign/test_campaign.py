"""A short, fixed part of the campaign; `python test/campaign/run.py` is all of it."""

import pathlib
import random
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
SEED, CASES = 20, 12
QUICK = ['recipes', 'datasets', 'rank_tables', 'archives', 'images', 'weights']


@pytest.fixture(scope='module')
def campaign(tmp_path_factory):
    """(the module judge, {group: its setup}, a folder of sound inputs)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('XDG_CACHE_HOME', str(tmp_path_factory.mktemp('cache')))
        patch.syspath_prepend(str(HERE))
        import inputs
        import judge
        import sources

        folder = tmp_path_factory.mktemp('sources')
        for make in ('archives', 'tables', 'pictures', 'weights'):
            getattr(sources, make)(folder / make.replace('pictures', 'images'))
        sources.records(folder)
        yield judge, inputs.GROUPS, folder
        for name in ('inputs', 'judge', 'sources', 'readers', 'damage'):
            sys.modules.pop(name, None)


@pytest.mark.parametrize('group', QUICK)
def test_cases_of_a_fixed_seed(campaign, group, tmp_path):
    judge, groups, folder = campaign
    case, found = groups[group](folder), []
    for number in range(CASES):
        place = tmp_path / str(number)
        place.mkdir()
        outcome, text = judge.judge(case, random.Random('%d %d' % (SEED, number)), place)
        assert outcome in judge.GOOD, '%s, case %d: %s' % (outcome, number, text)
        found.append(outcome)
    assert 'refused' in found


def test_what_the_judge_sees(campaign, tmp_path):
    judge = campaign[0]
    (tmp_path / 'file').write_text('precious')
    before = judge.snapshot(tmp_path)
    (tmp_path / 'file').unlink()

    def succeeds_wrongly():
        raise judge.Silent('other records')

    assert judge.judge(lambda: 1 / 0)[0] == 'TRACEBACK'
    assert judge.judge(succeeds_wrongly)[0] == 'SILENT'
    assert judge.judge(judge.require_kept, tmp_path, before)[0] == 'LOST'
    assert judge.judge(lambda: None)[0] == 'ok'
