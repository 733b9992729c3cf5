"""A run's life: what a folder resumes from, what is refused, and that nothing of it is lost."""

import json
import os
import shutil

import pytest
import yaml
from run_files import content, rows, steps

from common.checkpoints import checkpoint


@pytest.mark.parametrize('state', [None, 'model_checkpoint_path: "model.ck'])
def test_without_tensorflows_state_file_a_run_resumes_all_the_same(run, flags, copy, state):
    (copy / 'checkpoint').unlink()
    if state is not None:
        (copy / 'checkpoint').write_text(state)
    (copy / 'model.ckpt-33_temp_1').mkdir()  # of a save that a kill or a full disk has ended
    (copy / 'model.ckpt-33_temp_1' / 'part.tempstate2').write_text('half')
    run(*flags(copy, '--steps', '34'))
    assert not list(copy.glob('*temp*'))
    assert rows(copy, 'run')[-1]['resumed_from'] == 32
    assert steps(copy) == list(range(1, 35))


@pytest.mark.parametrize('damage', ['cut', 'missing', 'flipped'])
def test_a_damaged_checkpoint_is_skipped_and_kept(run, flags, copy, capsys, damage):
    data = copy / 'model.ckpt-32.data-00000-of-00001'
    whole = bytearray(data.read_bytes())
    if damage == 'missing':
        data.unlink()
    else:
        whole[len(whole) // 2] ^= 255
        data.write_bytes(whole[:100] if damage == 'cut' else whole)
    run(*flags(copy, '--steps', '33', '--eval_interval', '0'))
    out = capsys.readouterr().out
    assert 'resuming at step 31' in out
    if damage != 'missing':
        assert 'model.ckpt-32 is damaged and is skipped' in out
    assert (copy / 'model.ckpt-32.index.damaged').exists()
    assert checkpoint.Checkpoint(checkpoint.latest(copy)).step == 33
    logged = [json.loads(line).get('step') for line in open(str(copy / 'metrics.jsonl'))]
    assert logged.count(32) >= 4  # what was logged before is marked, not deleted
    assert steps(copy) == list(range(1, 34))


def test_a_folder_whose_checkpoints_are_gone_is_refused_and_left_alone(fails, flags, copy):
    for path in copy.glob('model.ckpt-*'):
        path.unlink()
    before = content(copy)
    line = fails(*flags(copy))
    assert 'holds an earlier run (wideresnet.ckpt, metrics.jsonl)' in line
    assert '--restart True' in line
    assert content(copy) == before


def test_restart_moves_the_run_aside(run, flags, copy):
    before = content(copy)
    run(*flags(copy, '--restart', 'True', '--steps', '1'))
    assert content(copy / 'earlier-1') == before
    assert steps(copy) == [1]
    assert rows(copy, 'run')[0]['resumed_from'] == 0
    assert not yaml.safe_load((copy / 'config.yaml').read_text())['restart']


@pytest.mark.parametrize('change', [('--depth', '16'), ('--schedule', 'piecewise')])
def test_a_refused_resume_writes_nothing(fails, flags, copy, change):
    (copy / 'wideresnet.ckpt.index').unlink()  # it is not complete
    before = content(copy)
    fails(*flags(copy, '--batch_size', '99', *change))
    assert content(copy) == before


def test_an_evaluation_that_a_kill_has_cost_is_made_up(run, flags, finished, tmp_path):
    """As if the run was killed after the checkpoint of step 16 and before its evaluation."""
    folder = tmp_path / 'run'
    run(*flags(folder, '--steps', '16', '--eval_interval', '0'))
    for name in ('wideresnet.ckpt.index', 'wideresnet.ckpt.data-00000-of-00001', 'eval.json'):
        (folder / name).unlink()
    shutil.rmtree(str(folder / 'best'))
    lines = (folder / 'metrics.jsonl').read_text().splitlines()
    kept = [line for line in lines if json.loads(line)['kind'] not in ('eval', 'end')]
    (folder / 'metrics.jsonl').write_text(''.join(line + '\n' for line in kept))
    run(*flags(folder))
    scores = {row['step']: row['top1'] for row in rows(folder, 'eval')}
    assert sorted(scores) == [16, 32]
    best = max(sorted(scores), key=lambda step: scores[step])
    assert json.loads((folder / 'best' / 'best.json').read_text())['step'] == best


def test_a_run_killed_after_its_final_checkpoint_still_ends(run, flags, copy):
    lines = (copy / 'metrics.jsonl').read_text().splitlines()
    assert json.loads(lines[-1])['kind'] == 'end'
    (copy / 'metrics.jsonl').write_text(''.join(line + '\n' for line in lines[:-1]))
    (copy / 'report.md').unlink()
    run(*flags(copy), report=True)
    assert rows(copy, 'end')[-1]['step'] == 32 and (copy / 'report.md').exists()
    assert steps(copy, 'eval') == [16, 32]


def test_a_report_that_a_kill_has_cost_is_written(run, flags, copy):
    """report.md is written last: there is none, or it is older than the final weights."""
    report = copy / 'report.md'
    report.unlink()
    run(*flags(copy), report=True)
    whole = report.read_text()
    assert '**Note.**' not in whole
    report.write_text('of shorter training')
    os.utime(str(report), (0, 0))
    run(*flags(copy), report=True)
    assert report.read_text() == whole


def test_other_records_are_named_like_a_changed_key(run, flags, copy, data, tmp_path, capsys):
    other = tmp_path / 'data'
    shutil.copytree(str(data), str(other))
    (other / 'test' / 'test.tfrecord').unlink()
    shutil.copy(str(data / 'train' / 'train.tfrecord'), str(other / 'test' / 'test.tfrecord'))
    run(*flags(copy, '--steps', '33', '--data_path', other))
    out = capsys.readouterr().out
    assert 'warning: the test records are not those of the session before' in out
    assert 'the train records' not in out
