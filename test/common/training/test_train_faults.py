"""What ends training, or keeps it from starting, with one line: losses that are no numbers, damaged
records, checkpoints that are not there or do not fit, and flags.
"""

import re
import shutil

import numpy as np
import pytest
from run_files import checkpoints, rows

# Not a number


@pytest.mark.parametrize('changes', ['--learning_rate 1e30 --warmup_epochs 0'])
def test_a_loss_that_is_no_number_stops_the_run(changes, fails, flags, tmp_path, weights):
    folder = tmp_path / 'run'
    line = fails(*flags(folder, '--save_checkpoints_steps 1', changes))
    found = re.search(
        r'loss is \S+ at step (\d+) \(learning rate \S+\); the last good checkpoint is (\S+)\. ',
        line,
    )
    assert found and 'model.ckpt-' in found.group(2)
    assert int(found.group(1)) > int(found.group(2).split('-')[-1])
    assert checkpoints(folder)[-1] < int(found.group(1))
    for step in checkpoints(folder):
        values = weights(folder / ('model.ckpt-%d' % step)).values()
        assert all(np.isfinite(value).all() for value in values)
    assert not (folder / 'wideresnet.ckpt.index').exists()
    for row in (folder / 'metrics.jsonl').read_text().splitlines():
        assert 'NaN' not in row and 'Infinity' not in row


def test_weights_that_are_no_numbers_after_the_last_step_stop_the_run(fails, flags, tmp_path):
    """The loss of the last step is that of the weights before it."""
    folder = tmp_path / 'run'
    words = '--learning_rate 1e39 --warmup_epochs 0 --steps 1 --ema_decay 0'
    assert 'step 1' in fails(*flags(folder, words))
    assert checkpoints(folder) == [0] and not (folder / 'wideresnet.ckpt.index').exists()


# Checkpoints


@pytest.mark.parametrize(
    'path, message',
    [
        ('nowhere/wideresnet.ckpt', 'no such checkpoint'),
        ('FINISHED/wideresnet.ckp', "no such checkpoint .*did you mean 'wideresnet.ckpt'"),
    ],
)
def test_a_checkpoint_that_is_not_there(path, message, fails, flags, finished, tmp_path):
    path = path.replace('FINISHED', str(finished))
    assert re.search(message, fails(*flags(tmp_path / 'run', '--model_path', path)))
    assert not (tmp_path / 'run' / 'metrics.jsonl').exists()


def test_a_checkpoint_of_another_network_says_what_it_is(fails, flags, finished, tmp_path):
    words = '--depth 16 --model_path', finished / 'wideresnet.ckpt'
    line = fails(*flags(tmp_path / 'run', *words))
    assert 'it is a WRN-10-1 with 4 classes' in line and '--depth 10' in line


@pytest.mark.parametrize(
    'change, message',
    [
        ('--depth 16', r'copy/model.ckpt-32 does not fit the network.*missing.*it is a WRN-10-1'),
        ('--optimizer adam', r'copy/model.ckpt-32 was written with another --optimizer'),
    ],
)
def test_a_run_of_another_network_or_optimizer_is_not_resumed(change, message, fails, flags, copy):
    assert re.search(message, fails(*flags(copy, '--epochs 9', change)))


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
    evaluation = ['--config', recipe(), '--model_path', finished / 'wideresnet.ckpt']
    evaluation += ['--output_path', tmp_path / 'evaluation']
    message = r'tfrecord: the record at byte \d+ does not match its checksum .*--skip_corrupt'
    for words in (training, evaluation):
        assert re.search(message, fails(*words, '--data_path', corrupt))


def test_skip_corrupt_leaves_them_out_and_image_num_limits_training_alone(
    run, flags, corrupt, tmp_path, capsys
):
    """The published command has --image_num 50000; there may be 10000 records in test/."""
    words = '--skip_corrupt 1 --steps 3 --batch_size 21 --image_num 42 --data_path'
    run(*flags(tmp_path / 'run', words, corrupt))
    assert capsys.readouterr().err.count('warning: left out: ') == 2
    assert rows(tmp_path / 'run', 'run')[0]['steps_per_epoch'] == 2
    assert rows(tmp_path / 'run', 'eval')[-1]['images'] == 20


# Mistakes that are found before anything is written


@pytest.mark.parametrize(
    'words, message',
    [
        ('--batch_size 65', '64 training records, which do not fill one global batch of 65'),
        ('--batch_size 16 --accumulate 5', 'one global batch of 80'),
        ('--depth 11', 'depth: 11 .*nearest are 10 and 16'),
        (
            '--schedule piecewise --boundaries [1] --factors [0.2,0.1]',
            r'a factor for each; found boundaries \[1.*\] and factors \[0.2, 0.1\]',
        ),
        ('--schedule piecewise --boundaries [1,1] --factors [0.2,0.1]', 'boundaries: .*ascend'),
        ('--data_path /nowhere', '/nowhere: no such folder'),
        ('--device gpu', '--device gpu'),
        ('--seed %d' % 2**32, 'seed'),
    ],
)
def test_mistakes_leave_no_trace(words, message, fails, flags, tmp_path):
    assert re.search(message, fails(*flags(tmp_path / 'run', words)))
    assert not (tmp_path / 'run').exists()


def test_mixed_precision_needs_a_device_that_has_it(fails, flags, tmp_path):
    line = fails(*flags(tmp_path / 'run', '--precision mixed --device cpu'))
    assert 'precision: mixed needs' in line
