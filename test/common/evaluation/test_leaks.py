"""Evaluations leave no open files and no threads behind."""

import os
import resource

import numpy as np
import psutil
import pytest

from common.checkpoints import checkpoint, restore
from common.data import pipeline
from common.devices import cpu
from common.evaluation import evaluate


@pytest.fixture
def few_files():
    """No more files than are open now and a few: a leak ends the test."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir('/proc/self/fd'))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 40, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_cycles_of_evaluation_are_flat(configured, images_and_labels, tmp_path, few_files):
    task, cfg = configured()
    variables = restore.network_variables(task, cfg)
    weights = {name: np.full(shape, 0.1, np.float32) for name, shape in variables.items()}
    checkpoint.write(tmp_path / 'w.ckpt', weights)
    folder = pipeline.open_split(task, cfg, 'test')
    device, process, seen = cpu.CPU(), psutil.Process(), []
    for _ in range(8):
        evaluate.evaluate(task, cfg, device, str(tmp_path / 'w.ckpt'), folder)
        seen.append((process.num_fds(), process.num_threads()))
    assert seen[-1][0] <= seen[2][0] and seen[-1][1] <= seen[2][1], seen
