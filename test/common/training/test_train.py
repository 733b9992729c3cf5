"""Training and evaluation as the command does them: what is written, resumed, refused; killed runs
end as others do.
"""

import json
import re
import shutil
import signal
import time

import numpy as np
import pytest
import tensorflow as tf
import yaml

from common.checkpoints import checkpoint, restore

STEPS = 32


def lines(folder, kind=None):
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    rows = [row for row in rows if not row.get('superseded')]
    return [row for row in rows if kind in (None, row['kind'])]


def steps(folder, kind='train'):
    return [row['step'] for row in lines(folder, kind)]


def checkpoints(folder):
    return sorted(int(path.stem.split('-')[-1]) for path in folder.glob('model.ckpt-*.index'))


def assert_equal_weights(weights, a, b, tolerance=0.0):
    """Equal to the last bit where both come from processes of the command; a process with another
    number of threads sums in another order.
    """
    assert sorted(weights(a)) == sorted(weights(b))
    for name, value in weights(a).items():
        np.testing.assert_allclose(
            weights(b)[name], value, rtol=tolerance, atol=tolerance, err_msg=name
        )


# What a finished run leaves


def test_files_of_a_finished_run(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        'config.yaml',
        'metrics.jsonl',
        'log.txt',
        'best',
        'wideresnet.ckpt.index',
        'wideresnet.ckpt.data-00000-of-00001',
        'eval.json',
        'confusion.npy',
        'report.md',
        'plots',
    }
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
    assert (
        saved['model'] == 'wideresnet'
        and saved['data_path'] == str(data)
        and saved['do_train'] is True
    )
    assert {key: saved[key] for key in run_settings} == run_settings


def test_metrics_hold_every_step_once(finished):
    kinds = [row['kind'] for row in lines(finished)]
    assert kinds == ['run', 'start'] + ['train'] * 16 + ['eval'] + ['train'] * 16 + ['eval', 'end']
    assert (
        steps(finished) == list(range(1, STEPS + 1))
        and steps(finished, 'eval') == [16, 32]
        and steps(finished, 'end') == [32]
    )
    start = lines(finished, 'run')[0]
    assert {
        key: start[key]
        for key in (
            'model',
            'device',
            'ranks',
            'global_batch',
            'steps_per_epoch',
            'total_steps',
            'resumed_from',
        )
    } == {
        'model': 'wideresnet',
        'device': 'cpu',
        'ranks': 1,
        'global_batch': 16,
        'steps_per_epoch': 4,
        'total_steps': 32,
        'resumed_from': 0,
    }
    for row in lines(finished, 'train'):
        assert row['epoch'] == row['step'] / 4 and row['loss'] > 0
    for row in lines(finished, 'eval'):
        assert row['images'] == 21 and row['epoch'] == row['step'] / 4
    times = [row['time'] for row in lines(finished)]
    assert times == sorted(times)
    assert (
        lines(finished, 'end')[0]['images_per_second'] > 0
        and lines(finished, 'end')[0]['seconds'] > 0
    )


def test_parameters_are_those_of_the_network(finished):
    # Stem 3x3x3x16; 16, 32 and 64 filters, two 3x3 convs a block, 1x1 shortcuts where the width
    # changes; BN scale and offset; classifier.
    convs = 27 * 16 + 9 * (16 * 16 * 2 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 16 * 32 + 32 * 64
    norms = 2 * (16 + 16 + 16 + 32 + 32 + 64 + 64)
    start = lines(finished, 'start')
    assert [row['parameters'] for row in start] == [convs + norms + 64 * 4 + 4]
    assert list(start[0]['start_seconds']) == ['imports', 'checks', 'graph', 'session', 'step']
    assert all(seconds >= 0 for seconds in start[0]['start_seconds'].values())


def test_logged_rate_is_the_rate_of_that_step(finished):
    """The first epoch rises from 0 to 0.05, the others follow half a cosine; step 1 is the update
    at step 0.
    """
    for row in lines(finished, 'train'):
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
    assert (
        len(re.findall(r'^step \d+: wideresnet eval  loss=\d+\.\d{5}   acc=\d\.\d{4}$', log, re.M))
        == 2
    )


def test_latest_checkpoints_are_kept(finished):
    assert checkpoints(finished) == [26, 31, 32]  # every 5 steps from 16 on, and the last
    assert checkpoint.latest(str(finished)).endswith('model.ckpt-32')


def test_best_is_kept_although_it_is_old(finished):
    score = {row['step']: row['top1'] for row in lines(finished, 'eval')}
    best = max(sorted(score), key=lambda step: score[step])  # the first of equals
    assert checkpoints(finished / 'best') == [best]
    note = json.loads((finished / 'best' / 'best.json').read_text())
    assert note['step'] == best and note['top1'] == score[best]
    assert checkpoint.Checkpoint(str(finished / 'best' / ('model.ckpt-%d' % best))).step == best


def test_final_checkpoint_is_the_averaged_weights_and_the_step(finished, weights):
    final, newest = weights(finished / 'wideresnet.ckpt'), weights(finished / 'model.ckpt-32')
    averaged = [
        name[: -len('/ExponentialMovingAverage')]
        for name in newest
        if name.endswith('/ExponentialMovingAverage')
    ]
    assert 'output/kernel' in averaged and not any('moving_' in name for name in averaged)
    assert final.pop('global_step') == 32
    assert set(final) == {
        name
        for name in newest
        if not name.endswith(('Momentum', 'ExponentialMovingAverage', 'global_step'))
    }
    for name, value in final.items():
        np.testing.assert_array_equal(
            value, newest[name + '/ExponentialMovingAverage' if name in averaged else name]
        )
    assert not np.array_equal(newest['output/kernel'], final['output/kernel'])


def test_eval_json_is_the_evaluation_of_the_final_checkpoint(
    finished, reference_evaluation, images_and_labels
):
    loss, top1, confusion = reference_evaluation(
        finished / 'wideresnet.ckpt', *images_and_labels(21, seed=2)
    )
    result = json.loads((finished / 'eval.json').read_text())
    assert (
        result['loss'] == pytest.approx(loss, rel=1e-4)
        and result['top1'] == pytest.approx(top1)
        and result['images'] == 21
    )
    assert (result['model'], result['checkpoint'], result['step']) == (
        'wideresnet',
        str(finished / 'wideresnet.ckpt'),
        32,
    )
    np.testing.assert_array_equal(np.load(str(finished / 'confusion.npy')), confusion)


def test_training_learns(finished):
    losses = [row['loss'] for row in lines(finished, 'train')]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


# Killed, stopped, resumed


def signalled(process, folder, session, number):
    """Sends the signal once this session of the run has logged a step of its own after the
    evaluation; (status, standard error).
    """

    def is_there():
        try:
            rows, runs = lines(folder), lines(folder, 'run')
        except (OSError, ValueError):  # not there yet, or being written
            return False
        return (
            len(runs) == session
            and rows[-1]['kind'] == 'train'
            and rows[-1]['step'] > max(16, runs[-1]['resumed_from'])
        )

    process.wait_for(is_there)
    process.send(number)
    status, _, error = process.finish()
    return status, error


@pytest.mark.slow
def test_killed_and_stopped_run_ends_in_the_weights_of_one_that_was_not(
    start, flags, finished, tmp_path, weights, monkeypatch
):
    """To the bit, with sessions as users have them."""
    monkeypatch.setenv('OPTIMISED_SESSIONS', '1')
    folder = tmp_path / 'run'
    status, _ = signalled(start(*flags(folder), forked=False), folder, 1, signal.SIGKILL)
    assert status == -signal.SIGKILL
    first = checkpoints(folder)[-1]
    assert 16 <= first < steps(folder)[-1] < STEPS  # steps were lost
    with open(str(folder / 'metrics.jsonl'), 'a') as file:
        file.write('{"kind": "train", "step": 2')  # as a run killed while writing leaves it

    # SIGTERM: the step under way is saved.
    status, error = signalled(start(*flags(folder)), folder, 2, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM and 'Traceback' not in error
    second = checkpoints(folder)[-1]
    assert second == steps(folder)[-1] < STEPS
    assert (
        'stopped by signal 15; the same command resumes at step %d' % second
        in (folder / 'log.txt').read_text()
    )
    assert not (folder / 'wideresnet.ckpt.index').exists() and not lines(folder, 'end')

    status, out, error = start(*flags(folder)).finish()
    assert status == 0, out + error
    assert [row['resumed_from'] for row in lines(folder, 'run')] == [0, first, second]
    assert steps(folder) == list(range(1, STEPS + 1)) and steps(folder, 'eval') == [16, 32]
    assert_equal_weights(weights, folder / 'wideresnet.ckpt', finished / 'wideresnet.ckpt')
    assert_equal_weights(
        weights, folder / 'model.ckpt-32', finished / 'model.ckpt-32'
    )  # optimizer slots too
    for mine, theirs in zip(lines(folder, 'train'), lines(finished, 'train')):
        assert (mine['loss'], mine['learning_rate']) == (theirs['loss'], theirs['learning_rate'])
    scores = [json.loads((path / 'best' / 'best.json').read_text()) for path in (folder, finished)]
    assert all(scores[0][key] == scores[1][key] for key in ('step', 'top1', 'loss'))


def test_interrupt_before_the_first_step(start, flags, tmp_path):
    folder = tmp_path / 'run'
    process = start(*flags(folder))
    process.wait_for(  # the last that is written before the training session
        lambda: any(b'training images' in path.read_bytes() for path in folder.glob('*.metrics'))
    )
    time.sleep(0.2)  # now it builds the graph, which takes longer
    process.send(signal.SIGINT)
    status, _, error = process.finish()
    assert status == 128 + signal.SIGINT and 'Traceback' not in error
    assert checkpoints(folder)[-1] == steps(folder)[-1] == 1


def test_a_finished_run_says_so_and_changes_nothing(run, flags, copy, capsys):
    before = {
        path.name: path.read_bytes()
        for path in copy.iterdir()
        if path.is_file() and 'tfevents' not in path.name and path.name != 'log.txt'
    }
    run(*flags(copy))
    assert 'training is complete (step 32 of 32)' in capsys.readouterr().out
    after = {
        path.name: path.read_bytes()
        for path in copy.iterdir()
        if path.is_file() and 'tfevents' not in path.name and path.name != 'log.txt'
    }
    assert after == before


class Stop(Exception):
    pass


def test_a_run_killed_after_its_last_step_is_finished(
    run, flags, copy, finished, weights, monkeypatch, capsys
):
    """The final checkpoint is the last thing that is written: without it, evaluation and export are
    done (again).
    """
    for path in copy.glob('wideresnet.ckpt*'):
        path.unlink()
    (copy / 'eval.json').unlink()

    def export(*_):
        raise Stop

    monkeypatch.setattr(restore, 'export', export)
    with pytest.raises(Stop):
        run(*flags(copy))
    assert (copy / 'eval.json').exists() and not (copy / 'wideresnet.ckpt.index').exists()
    monkeypatch.undo()
    # Likewise with the final checkpoint of a shorter run, which went on with more epochs.
    checkpoint.write(
        str(copy / 'wideresnet.ckpt'),
        dict(weights(finished / 'wideresnet.ckpt'), global_step=np.int64(30)),
    )
    run(*flags(copy))
    assert 'training is complete' not in capsys.readouterr().out
    assert_equal_weights(weights, copy / 'wideresnet.ckpt', finished / 'wideresnet.ckpt')
    assert steps(copy) == list(range(1, STEPS + 1)) and steps(copy, 'eval') == [16, 32]
    assert (
        json.loads((copy / 'eval.json').read_text())['top1']
        == json.loads((finished / 'eval.json').read_text())['top1']
    )


def test_a_finished_run_goes_on_with_more_epochs_and_other_settings(
    run, flags, copy, weights, capsys
):
    """`copy` also lies elsewhere than the run did: the file `checkpoint` must not have the old
    place in it.
    """
    run(*flags(copy, '--epochs', '8.5', '--learning_rate', '0.01'))
    out = capsys.readouterr().out
    assert 'warning: epochs was 8.0 when the run was started, now 8.5' in out
    assert 'warning: learning_rate was 0.05 when the run was started, now 0.01' in out
    assert not re.search('warning: (data_path|output_path|steps)', out)
    assert lines(copy, 'run')[-1]['resumed_from'] == 32
    assert (
        steps(copy) == list(range(1, 35)) and weights(copy / 'wideresnet.ckpt')['global_step'] == 34
    )
    assert lines(copy, 'train')[-1]['learning_rate'] < 0.01


def test_without_its_newest_checkpoint_a_run_goes_on_from_the_one_before(
    run, flags, copy, finished, weights
):
    for path in copy.glob('model.ckpt-32.*'):
        path.unlink()
    (copy / 'wideresnet.ckpt.index').unlink()
    run(*flags(copy))
    assert lines(copy, 'run')[-1]['resumed_from'] == 31
    assert steps(copy) == list(range(1, STEPS + 1))
    assert_equal_weights(weights, copy / 'model.ckpt-32', finished / 'model.ckpt-32', 1e-4)


def test_a_checkpoint_left_by_a_later_step_is_replaced(run, flags, copy, finished, weights):
    """Whoever goes back by editing the file `checkpoint` gets the steps after it anew, not what is
    left of the old ones.
    """
    (copy / 'checkpoint').write_text(
        'model_checkpoint_path: "model.ckpt-31"\nall_model_checkpoint_paths: "model.ckpt-31"\n'
    )
    data = copy / 'model.ckpt-32.data-00000-of-00001'
    data.write_bytes(data.read_bytes()[:100])
    run(*flags(copy))
    assert lines(copy, 'run')[-1]['resumed_from'] == 31
    assert_equal_weights(weights, copy / 'model.ckpt-32', finished / 'model.ckpt-32', 1e-4)


@pytest.mark.parametrize(
    'change, message',
    [
        (
            ('--depth', '16'),
            r'copy/model.ckpt-32 does not fit the network.*missing.*it is a WRN-10-1',
        ),
        (('--optimizer', 'adam'), r'copy/model.ckpt-32 was written with another --optimizer'),
    ],
)
def test_a_run_of_another_network_or_optimizer_is_not_resumed(change, message, fails, flags, copy):
    assert re.search(message, fails(*flags(copy, '--epochs', '9', *change)))


# Not a number


@pytest.mark.parametrize('changes', [('--learning_rate', '1e30', '--warmup_epochs', '0')])
def test_a_loss_that_is_no_number_stops_the_run(changes, fails, flags, tmp_path, weights):
    folder = tmp_path / 'run'
    line = fails(*flags(folder, '--save_checkpoints_steps', '1', *changes))
    found = re.search(
        r'loss is \S+ at step (\d+) \(learning rate \S+\); the last good checkpoint is (\S+)\. ',
        line,
    )
    assert found and 'model.ckpt-' in found.group(2)
    assert int(found.group(1)) > int(found.group(2).split('-')[-1])
    assert checkpoints(folder)[-1] < int(found.group(1))
    for step in checkpoints(folder):
        assert all(
            np.isfinite(value).all()
            for value in weights(folder / ('model.ckpt-%d' % step)).values()
        )
    assert not (folder / 'wideresnet.ckpt.index').exists()
    for row in (folder / 'metrics.jsonl').read_text().splitlines():
        assert 'NaN' not in row and 'Infinity' not in row


def test_weights_that_are_no_numbers_after_the_last_step_stop_the_run(fails, flags, tmp_path):
    """The loss of the last step is that of the weights before it."""
    line = fails(
        *flags(
            tmp_path / 'run',
            '--learning_rate',
            '1e39',
            '--warmup_epochs',
            '0',
            '--steps',
            '1',
            '--ema_decay',
            '0',
        )
    )
    assert 'step 1' in line
    assert (
        checkpoints(tmp_path / 'run') == [0]
        and not (tmp_path / 'run' / 'wideresnet.ckpt.index').exists()
    )


# Starting from a checkpoint


def test_another_number_of_classes_needs_reinit_head(
    run, fails, flags, finished, tmp_path, weights, capsys
):
    words = flags(
        tmp_path / 'run',
        '--model_path',
        finished / 'wideresnet.ckpt',
        '--num_classes',
        '6',
        '--steps',
        '1',
    )
    line = fails(*words)
    assert 'output/kernel is [64, 4] instead of [64, 6]' in line and '--reinit_head True' in line
    run(*words, '--reinit_head', 'True')
    assert 'newly initialised: output/kernel, output/bias' in capsys.readouterr().out
    before, after = (
        weights(finished / 'wideresnet.ckpt'),
        weights(tmp_path / 'run' / 'model.ckpt-0'),
    )
    assert (
        after['global_step'] == 0
        and after['output/kernel'].shape == (64, 6)
        and np.abs(after['output/kernel']).max() > 0
    )
    for name in set(before) - {'global_step', 'output/kernel', 'output/bias'}:
        np.testing.assert_array_equal(after[name], before[name])
    for (
        name
    ) in after:  # averages start from the same weights, not from those that were drawn before
        if name.endswith('/ExponentialMovingAverage'):
            np.testing.assert_array_equal(
                after[name], after[name[: -len('/ExponentialMovingAverage')]]
            )
    assert 'stem/conv/kernel/ExponentialMovingAverage' in after
    assert weights(tmp_path / 'run' / 'wideresnet.ckpt')['output/bias'].shape == (6,)


@pytest.mark.parametrize(
    'path, message',
    [
        ('nowhere/wideresnet.ckpt', 'no such checkpoint'),
        ('FINISHED/wideresnet.ckp', "no such checkpoint .*did you mean 'wideresnet.ckpt'"),
    ],
)
def test_a_checkpoint_that_is_not_there(path, message, fails, flags, finished, tmp_path):
    words = ['--model_path', path.replace('FINISHED', str(finished))]
    assert re.search(message, fails(*flags(tmp_path / 'run', *words)))
    assert not (tmp_path / 'run' / 'metrics.jsonl').exists()


def test_a_checkpoint_of_another_network_says_what_it_is(fails, flags, finished, tmp_path):
    line = fails(
        *flags(tmp_path / 'run', '--model_path', finished / 'wideresnet.ckpt', '--depth', '16')
    )
    assert 'it is a WRN-10-1 with 4 classes' in line and '--depth 10' in line


def test_less_than_half_a_step_is_one_and_the_seed_decides_the_initial_weights(
    run, flags, data, finished, tmp_path, weights
):
    """That the same seed gives the same weights is what the killed run shows. There is no test/
    beside these records.
    """
    folder = tmp_path / 'run'
    run(
        *flags(
            folder,
            '--data_path',
            data / 'train',
            '--epochs',
            '0.1',
            '--seed',
            '2',
            '--warmup_epochs',
            '0',
            '--save_checkpoints_steps',
            '1',
        )
    )
    assert steps(folder) == [1] and not lines(folder, 'eval')
    assert (
        (folder / 'wideresnet.ckpt.index').exists()
        and not (folder / 'eval.json').exists()
        and not (folder / 'best').exists()
    )
    run(*flags(tmp_path / 'other', '--data_path', data / 'train', '--steps', '1'))
    one, two = weights(folder / 'model.ckpt-0'), weights(tmp_path / 'other' / 'model.ckpt-0')
    assert not np.array_equal(one['stem/conv/kernel'], two['stem/conv/kernel'])


# Records that cannot be used


@pytest.fixture
def corrupt(data, tmp_path):
    """A copy of the data in which the image of one record of either split is not what it was."""
    shutil.copytree(str(data), str(tmp_path / 'corrupt'))
    for path in (tmp_path / 'corrupt').glob('*/*.tfrecord'):
        content = bytearray(path.read_bytes())
        content[1500] ^= 0xFF  # in the middle of the first record
        path.write_bytes(content)
    return tmp_path / 'corrupt'


def test_corrupt_records_stop_training_and_evaluation(
    fails, flags, recipe, corrupt, finished, tmp_path
):
    training = flags(tmp_path / 'run')
    evaluation = [
        '--config',
        recipe(),
        '--model_path',
        finished / 'wideresnet.ckpt',
        '--output_path',
        tmp_path / 'evaluation',
    ]
    for words in (training, evaluation):
        line = fails(*words, '--data_path', corrupt)
        assert re.search(
            r'tfrecord: the record at byte \d+ does not match its checksum .*--skip_corrupt', line
        )


def test_skip_corrupt_leaves_them_out_and_image_num_limits_training_alone(
    run, flags, corrupt, tmp_path, capsys
):
    """The published command has --image_num 50000; there may be 10000 records in test/."""
    run(
        *flags(
            tmp_path / 'run',
            '--data_path',
            corrupt,
            '--skip_corrupt',
            '1',
            '--steps',
            '3',
            '--batch_size',
            '21',
            '--image_num',
            '42',
        )
    )
    assert capsys.readouterr().err.count('warning: left out: ') == 2
    assert lines(tmp_path / 'run', 'run')[0]['steps_per_epoch'] == 2
    assert lines(tmp_path / 'run', 'eval')[-1]['images'] == 20


# Mistakes that are found before anything is written


@pytest.mark.parametrize(
    'words, message',
    [
        (('--batch_size', '65'), '64 training records, which do not fill one global batch of 65'),
        (('--batch_size', '16', '--accumulate', '5'), 'one global batch of 80'),
        (('--depth', '11'), 'depth: 11 .*nearest are 10 and 16'),
        (
            ('--schedule', 'piecewise', '--boundaries', '[1]', '--factors', '[0.2, 0.1]'),
            r'a factor for each; found boundaries \[1.*\] and factors \[0.2, 0.1\]',
        ),
        (
            ('--schedule', 'piecewise', '--boundaries', '[1, 1]', '--factors', '[0.2, 0.1]'),
            'boundaries: .*ascend',
        ),
        (('--data_path', '/nowhere'), '/nowhere: no such folder'),
        (('--device', 'gpu'), '--device gpu'),
        (('--seed', str(2**32)), 'seed'),
    ],
)
def test_mistakes_leave_no_trace(words, message, fails, flags, tmp_path):
    assert re.search(message, fails(*flags(tmp_path / 'run', *words)))
    assert not (tmp_path / 'run').exists()


def test_mixed_precision_needs_a_device_that_has_it(fails, flags, tmp_path):
    assert 'precision: mixed needs' in fails(
        *flags(tmp_path / 'run', '--precision', 'mixed', '--device', 'cpu')
    )
