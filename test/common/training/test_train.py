"""Training as the command does it: killed and stopped runs end as others do, finished ones go on,
new ones start from a checkpoint.
"""

import json
import re
import signal
import time

import numpy as np
import pytest
from run_files import checkpoints, content, evaluation, rows, steps

from common.checkpoints import checkpoint, restore

STEPS = 32


def assert_equal_weights(weights, a, b, tolerance=0.0):
    """Equal to the last bit where both come from processes of the command; a process with another
    number of threads sums in another order.
    """
    assert sorted(weights(a)) == sorted(weights(b))
    for name, value in weights(a).items():
        np.testing.assert_allclose(
            weights(b)[name], value, rtol=tolerance, atol=tolerance, err_msg=name
        )


# Killed, stopped, resumed


def signalled(process, folder, session, number):
    """Sends the signal once this session of the run has logged a step of its own after the
    evaluation; (status, standard error).
    """

    def is_there():
        try:
            all_rows, sessions = rows(folder), rows(folder, 'run')
        except (OSError, ValueError):  # not there yet, or being written
            return False
        return (
            len(sessions) == session
            and all_rows[-1]['kind'] == 'train'
            and all_rows[-1]['step'] > max(16, sessions[-1]['resumed_from'])
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
    said = 'stopped by signal 15; the same command resumes at step %d' % second
    assert said in (folder / 'log.txt').read_text()
    assert not (folder / 'wideresnet.ckpt.index').exists() and not rows(folder, 'end')

    status, out, error = start(*flags(folder)).finish()
    assert status == 0, out + error
    assert [row['resumed_from'] for row in rows(folder, 'run')] == [0, first, second]
    assert steps(folder) == list(range(1, STEPS + 1)) and steps(folder, 'eval') == [16, 32]
    for name in ('wideresnet.ckpt', 'model.ckpt-32'):  # the latter with the optimizer's slots
        assert_equal_weights(weights, folder / name, finished / name)
    for mine, theirs in zip(rows(folder, 'train'), rows(finished, 'train')):
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
    before = content(copy)
    run(*flags(copy))
    assert 'training is complete (step 32 of 32)' in capsys.readouterr().out
    assert content(copy) == before


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
    assert evaluation(copy)['top1'] == evaluation(finished)['top1']


def test_a_finished_run_goes_on_with_more_epochs_and_other_settings(
    run, flags, copy, weights, capsys
):
    """`copy` also lies elsewhere than the run did: the file `checkpoint` must not have the old
    place in it.
    """
    run(*flags(copy, '--epochs 8.5 --learning_rate 0.01'))
    out = capsys.readouterr().out
    assert 'warning: epochs was 8.0 when the run was started, now 8.5' in out
    assert 'warning: learning_rate was 0.05 when the run was started, now 0.01' in out
    assert not re.search('warning: (data_path|output_path|steps)', out)
    assert rows(copy, 'run')[-1]['resumed_from'] == 32
    assert steps(copy) == list(range(1, 35))
    assert weights(copy / 'wideresnet.ckpt')['global_step'] == 34
    assert rows(copy, 'train')[-1]['learning_rate'] < 0.01


def test_without_its_newest_checkpoint_a_run_goes_on_from_the_one_before(
    run, flags, copy, finished, weights
):
    for path in copy.glob('model.ckpt-32.*'):
        path.unlink()
    (copy / 'wideresnet.ckpt.index').unlink()
    run(*flags(copy))
    assert rows(copy, 'run')[-1]['resumed_from'] == 31
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
    assert rows(copy, 'run')[-1]['resumed_from'] == 31
    assert_equal_weights(weights, copy / 'model.ckpt-32', finished / 'model.ckpt-32', 1e-4)


# Starting from a checkpoint


def test_another_number_of_classes_needs_reinit_head(
    run, fails, flags, finished, tmp_path, weights, capsys
):
    path, folder = finished / 'wideresnet.ckpt', tmp_path / 'run'
    words = flags(folder, '--num_classes 6 --steps 1 --model_path', path)
    line = fails(*words)
    assert 'output/kernel is [64, 4] instead of [64, 6]' in line and '--reinit_head True' in line
    run(*words, '--reinit_head', 'True')
    assert 'newly initialised: output/kernel, output/bias' in capsys.readouterr().out
    before, after = weights(path), weights(folder / 'model.ckpt-0')
    assert after['global_step'] == 0 and after['output/kernel'].shape == (64, 6)
    assert np.abs(after['output/kernel']).max() > 0
    for name in set(before) - {'global_step', 'output/kernel', 'output/bias'}:
        np.testing.assert_array_equal(after[name], before[name])
    # Averages start from the same weights, not from those that were drawn before.
    average = '/ExponentialMovingAverage'
    for name in after:
        if name.endswith(average):
            np.testing.assert_array_equal(after[name], after[name[: -len(average)]])
    assert 'stem/conv/kernel' + average in after
    assert weights(folder / 'wideresnet.ckpt')['output/bias'].shape == (6,)


def test_less_than_half_a_step_is_one_and_the_seed_decides_the_initial_weights(
    run, flags, data, tmp_path, weights
):
    """That the same seed gives the same weights is what the killed run shows. There is no test/
    beside these records.
    """
    folder, other = tmp_path / 'run', tmp_path / 'other'
    words = '--epochs 0.1 --seed 2 --warmup_epochs 0 --save_checkpoints_steps 1 --data_path'
    run(*flags(folder, words, data / 'train'))
    assert steps(folder) == [1] and not rows(folder, 'eval')
    assert (folder / 'wideresnet.ckpt.index').exists()
    assert not (folder / 'eval.json').exists() and not (folder / 'best').exists()
    run(*flags(other, '--steps 1 --data_path', data / 'train'))
    one, two = (weights(path / 'model.ckpt-0') for path in (folder, other))
    assert not np.array_equal(one['stem/conv/kernel'], two['stem/conv/kernel'])
