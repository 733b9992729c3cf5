"""--device npu with two and four processes: the same training, and a rank that dies."""

import os
import re
import signal
import time

import pytest
from npu_runs import CM, assert_same_training, several, succeeds
from run_files import checkpoints, steps

pytestmark = [pytest.mark.slow]


@pytest.mark.parametrize('marked', [pytest.param(None, marks=several)])
def test_four_devices_train_as_a_cpu_does(marked, launch, run, flags, weights, tmp_path):
    """Batch norm is frozen, as its statistics are those of a device's own images."""
    fields = dict(freeze_bn=True, steps=3)
    text = succeeds(
        launch(
            tmp_path / 'npu',
            *flags('run', batch_size=4, precision='float32', **fields),
            devices='0-3',
        )
    )
    assert 'device=npu x 4  global batch 16' in text
    run(*flags(tmp_path / 'cpu', '--device', 'cpu', batch_size=16, **fields))
    assert_same_training(weights, tmp_path / 'npu' / 'run', tmp_path / 'cpu', 3)


@pytest.mark.parametrize('marked', [pytest.param(None, marks=several)])
def test_a_rank_that_dies_ends_the_job_and_the_command_goes_on(marked, launch, flags, tmp_path):
    """First with a rank table; then without one, until a signal."""
    folder, words = (
        tmp_path / 'run',
        flags('run', batch_size=4, steps=300, save_checkpoints_steps=5, keep_checkpoints=99),
    )

    def reaches(step):
        return lambda: (folder / 'metrics.jsonl').exists() and max(steps(folder) or [0]) >= step

    process = launch(tmp_path, *words, devices='0-1')
    process.wait_for(reaches(7))
    os.kill(int((tmp_path / 'pid1').read_text()), signal.SIGKILL)
    began = time.monotonic()
    status, out, error = process.finish(60)
    assert time.monotonic() - began < 10
    assert status not in (0, None) and re.search(
        r'launch: rank 1 .*(signal 9|SIGKILL)', out + error
    ), out + error
    for rank in range(2):
        with pytest.raises(OSError):
            os.kill(int((tmp_path / ('pid%d' % rank)).read_text()), 0)
    killed = checkpoints(folder)[-1]
    assert 5 <= killed < 200

    process = launch(tmp_path, *words, devices='0-1', more=CM)
    process.wait_for(reaches(killed + 7))
    process.send(signal.SIGTERM)
    status, out, error = process.finish(60)
    stopped = checkpoints(folder)[-1]
    assert (
        status == 143
        and 'resuming at step %d' % killed in out
        and 'stopped by signal 15' in out
        and 'Traceback' not in out + error
    )
    assert killed + 7 <= stopped < 300 and steps(folder) == list(
        range(1, stopped + 1)
    )  # saved where it stopped, nothing twice
