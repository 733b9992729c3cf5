"""What tests of `--device npu` share: how a run ends, what it leaves, and the same of a CPU."""

import importlib.util
import pathlib

import numpy as np
import pytest
from run_files import evaluation, rows, steps

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent.parent
RUN = ROOT / 'wideresnet_tf' / 'run_wideresnet.py'
WITH_SIM = ROOT / 'test' / 'ascend_sim' / 'env.sh'
several = [
    pytest.mark.processes,
    pytest.mark.skipif(
        not importlib.util.find_spec('horovod'), reason='the stand-in joins ranks by Horovod'
    ),
]
CM = (
    '--cm_chief_ip 127.0.0.1 --cm_chief_port 29688 --cm_chief_device 0 --cm_worker_size 2'
    ' --cm_worker_ip 127.0.0.1'.split()
)


def succeeds(process):
    status, out, error = process.finish(200)
    assert status == 0, out + error
    return out + error


def assert_same_training(weights, folder, reference, step):
    """Losses, weights and evaluation against those of a CPU."""
    assert steps(folder) == steps(reference)
    np.testing.assert_allclose(
        [row['loss'] for row in rows(folder, 'train')],
        [row['loss'] for row in rows(reference, 'train')],
        atol=1e-4,
    )
    found, expected = (weights(path / ('model.ckpt-%d' % step)) for path in (folder, reference))
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        # On equal numbers of threads the two are equal bit for bit, mixed precision and a resumed
        # run included. Here the processes have pools of different sizes, which add in different
        # orders; where such a rounding error flips a ReLU, a slot, which holds gradients, moves by
        # up to a thousandth, and a weight by that times the learning rate of 0.01.
        atol = 1e-2 if name.endswith('Momentum') else 1e-4
        np.testing.assert_allclose(found[name], value, atol=atol, err_msg=name)
    first, second = evaluation(folder), evaluation(reference)
    assert (first['images'], first['top1']) == (second['images'], second['top1'])
    assert first['loss'] == pytest.approx(second['loss'], abs=1e-4)
    np.testing.assert_array_equal(
        np.load(str(folder / 'confusion.npy')), np.load(str(reference / 'confusion.npy'))
    )
