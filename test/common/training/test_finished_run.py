"""What a finished run leaves: its files, rows, log lines, checkpoints and evaluation."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
import yaml
from run_files import checkpoints, evaluation, rows, steps

from common.checkpoints import checkpoint

STEPS = 32


def test_files_of_a_finished_run(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= set(
        'config.yaml metrics.jsonl log.txt best wideresnet.ckpt.index eval.json confusion.npy'
        ' wideresnet.ckpt.data-00000-of-00001 report.md plots'.split()
    )
    assert any(name.startswith('events.out.tfevents') for name in names)
    assert not [name for name in names if name.startswith('.') or 'tmp' in name]


def test_tensorboard_shows_the_first_batch_once(finished):
    tags = [
        (event.step, value.tag)
        for path in finished.glob('events*')
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.HasField('image')
    ]
    assert tags == [(0, 'training images')]


def test_config_of_the_run_is_what_was_asked_for(finished, data, run_settings):
    saved = yaml.safe_load((finished / 'config.yaml').read_text())
    expected = dict(run_settings, model='wideresnet', data_path=str(data))
    assert {key: saved[key] for key in expected} == expected and saved['do_train'] is True


def test_metrics_hold_every_step_once(finished):
    kinds = [row['kind'] for row in rows(finished)]
    assert kinds == ['run', 'start'] + ['train'] * 16 + ['eval'] + ['train'] * 16 + ['eval', 'end']
    assert steps(finished) == list(range(1, STEPS + 1))
    assert steps(finished, 'eval') == [16, 32] and steps(finished, 'end') == [32]
    start = rows(finished, 'run')[0]
    expected = dict(model='wideresnet', device='cpu', ranks=1, global_batch=16)
    expected.update(steps_per_epoch=4, total_steps=32, resumed_from=0)
    assert {key: start[key] for key in expected} == expected
    for row in rows(finished, 'train'):
        assert row['epoch'] == row['step'] / 4 and row['loss'] > 0
    for row in rows(finished, 'eval'):
        assert row['images'] == 21 and row['epoch'] == row['step'] / 4
    times = [row['time'] for row in rows(finished)]
    assert times == sorted(times)
    end = rows(finished, 'end')[0]
    assert end['images_per_second'] > 0 and end['seconds'] > 0


def test_parameters_are_those_of_the_network(finished):
    # Stem 3x3x3x16; 16, 32 and 64 filters, two 3x3 convs a block, 1x1 shortcuts where the width
    # changes; BN scale and offset; classifier.
    convs = 27 * 16 + 9 * (16 * 16 * 2 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 16 * 32 + 32 * 64
    norms = 2 * (16 + 16 + 16 + 32 + 32 + 64 + 64)
    start = rows(finished, 'start')
    assert [row['parameters'] for row in start] == [convs + norms + 64 * 4 + 4]
    assert list(start[0]['start_seconds']) == ['imports', 'checks', 'graph', 'session', 'step']
    assert all(seconds >= 0 for seconds in start[0]['start_seconds'].values())


def test_logged_rate_is_the_rate_of_that_step(finished):
    """The first epoch rises from 0 to 0.05, the others follow half a cosine; step 1 is the update
    at step 0.
    """
    for row in rows(finished, 'train'):
        t = row['step'] - 1
        expected = 0.05 * t / 4 if t < 4 else 0.05 * (1 + np.cos(np.pi * (t - 4) / 28)) / 2
        assert row['learning_rate'] == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_log_lines(finished):
    log = (finished / 'log.txt').read_text()
    found = re.findall(
        r'^epoch: (\d+) step: (\d+), loss is (\d+\.\d{7}), (\d+\.\d|-) img/s, lr (\S+), ETA'
        r' (?:\d+:\d\d:\d\d|-)$',
        log,
        re.M,
    )
    assert [(int(epoch), int(step)) for epoch, step, *_ in found] == [
        (t // 4 + 1, t % 4 + 1) for t in range(STEPS)
    ]
    line = r'^step \d+: wideresnet eval  loss=\d+\.\d{5}   acc=\d\.\d{4}$'
    assert len(re.findall(line, log, re.M)) == 2


def test_latest_checkpoints_are_kept(finished):
    assert checkpoints(finished) == [26, 31, 32]  # every 5 steps from 16 on, and the last
    assert checkpoint.latest(str(finished)).endswith('model.ckpt-32')


def test_best_is_kept_although_it_is_old(finished):
    score = {row['step']: row['top1'] for row in rows(finished, 'eval')}
    best = max(sorted(score), key=lambda step: score[step])  # the first of equals
    assert checkpoints(finished / 'best') == [best]
    note = json.loads((finished / 'best' / 'best.json').read_text())
    assert note['step'] == best and note['top1'] == score[best]
    assert checkpoint.Checkpoint(str(finished / 'best' / ('model.ckpt-%d' % best))).step == best


def test_final_checkpoint_is_the_averaged_weights_and_the_step(finished, weights):
    final, newest = weights(finished / 'wideresnet.ckpt'), weights(finished / 'model.ckpt-32')
    average = '/ExponentialMovingAverage'
    averaged = [name[: -len(average)] for name in newest if name.endswith(average)]
    assert 'output/kernel' in averaged and not any('moving_' in name for name in averaged)
    assert final.pop('global_step') == 32
    others = ('Momentum', 'ExponentialMovingAverage', 'global_step')
    assert set(final) == {name for name in newest if not name.endswith(others)}
    for name, value in final.items():
        expected = newest[name + average if name in averaged else name]
        np.testing.assert_array_equal(value, expected)
    assert not np.array_equal(newest['output/kernel'], final['output/kernel'])


def test_eval_json_is_the_evaluation_of_the_final_checkpoint(
    finished, reference_evaluation, images_and_labels
):
    path = finished / 'wideresnet.ckpt'
    loss, top1, confusion = reference_evaluation(path, *images_and_labels(21, seed=2))
    result = evaluation(finished)
    assert result['loss'] == pytest.approx(loss, rel=1e-4)
    assert result['top1'] == pytest.approx(top1) and result['images'] == 21
    whose = [result[key] for key in ('model', 'checkpoint', 'step')]
    assert whose == ['wideresnet', str(path), 32]
    np.testing.assert_array_equal(np.load(str(finished / 'confusion.npy')), confusion)


def test_training_learns(finished):
    losses = [row['loss'] for row in rows(finished, 'train')]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
