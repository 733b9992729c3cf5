"""The whole network, narrow, on two ranks of a CPU with two images each, which run this file,
against one rank with four. Its layers on the Ascend stand-in: common/training/test_batch_norm.py.
"""

import importlib.util
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
from resnest_networks import deeplab

from common import devices, host
from common.configuration import config, settings
from common.devices.cpu import CPU
from common.metrics import losses
from common.training import batch_norm, optimizer

TWO_RANKS = pathlib.Path(__file__).resolve().parent.parent / 'common' / 'training' / 'two_ranks.py'
STEPS = 3
LIMIT = 5e-5 if host.is_mkl() else 1e-5  # Intel's build rounds otherwise in each run
pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(not importlib.util.find_spec('horovod'), reason='Horovod is not installed'),
]


def examples():
    """Images and labels of 8x8 squares; images differ in mean and contrast, or the batch norms
    after a global pooling would amplify rounding.
    """
    random = np.random.RandomState(0)
    squares = random.normal(0, 1, (4, 8, 8, 3)) * np.float32([0.5, 1, 1.5, 2])[
        :, None, None, None
    ] + random.normal(0, 1, (4, 1, 1, 3))
    return [
        np.kron(values, np.ones((1, 8, 8) + (1,) * (values.ndim - 3))).astype(dtype)
        for values, dtype in ((squares, np.float32), (random.randint(0, 5, (4, 8, 8)), np.int32))
    ]


def of_rank(rank):
    return [values[2 * rank : 2 * rank + 2] for values in examples()]


def start_values(variables):
    """Most units are active: in a layer with few of them, each that is almost always 0 would
    amplify rounding too.
    """
    random = np.random.RandomState(9)

    def value(name, shape):
        if len(shape) > 1:
            return random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        return random.uniform(
            *((0.5, 1.2) if name.endswith(('gamma', 'moving_variance')) else (0.3, 0.8)), shape
        )

    return {
        variable.op.name: value(variable.op.name, variable.shape.as_list())
        for variable in variables
    }


def train(device, session_config, *batches):
    """A few steps of SGD on each batch of images and labels, from the same start values: all
    variables, these values, and the loss of all ranks in each step. The batches are of one size.
    """
    cfg = config.parse(
        settings.Config, ['--optimizer', 'sgd', '--weight_decay', '0', '--precision', 'float32']
    )

    def losses_of(_):
        outputs = deeplab(
            images,
            depth=14,
            width=1 / 16,
            num_classes=5,
            training=True,
            batch_norm=batch_norm.synchronised(device),
        )
        loss = tf.add_n(
            [
                weight * losses.cross_entropy(logits, labels)
                for weight, logits in zip((1.0, 0.4), outputs)
            ]
        )
        return optimizer.Losses(loss, loss)

    with tf.Graph().as_default(), tf.Session(config=session_config) as session:
        images, labels = (tf.placeholder(values.dtype, values.shape) for values in batches[0])
        train_op, loss = optimizer.train_op(cfg, device, losses_of, tf.constant(0.01))
        loss = device.allreduce_sum(loss, 'loss') / device.size
        variables = [
            variable for variable in tf.global_variables() if variable.op.name != 'global_step'
        ]
        start = start_values(variables)
        initial = {
            variable.initializer.inputs[1]: start[variable.op.name] for variable in variables
        }
        initializers = [variable.initializer for variable in variables]
        initializers.append(tf.train.get_global_step().initializer)
        results = []
        for batch in batches:
            session.run(initializers, initial)
            fed = dict(zip([images, labels], batch))
            seen = [session.run([train_op, loss], fed)[1] for _ in range(STEPS)]
            result = session.run({variable.op.name: variable for variable in variables})
            result.update({'start/' + name: value for name, value in start.items()})
            results.append(dict(result, losses=np.array(seen)))
    return results


def main(folder):
    device = devices.select('cpu')
    (result,) = train(device, device.session_config(), of_rank(device.rank))
    np.savez('%s/rank%d.npz' % (folder, device.rank), **result)


@pytest.fixture(scope='module')
def one_process():
    """Trained on all images; and on those of rank 0 alone, each twice, which changes no mean."""
    return train(CPU(), None, examples(), [np.repeat(values, 2, 0) for values in of_rank(0)])


@pytest.fixture(scope='module')
def folder(start, tmp_path_factory):
    """What each of the two ranks found."""
    folder = tmp_path_factory.mktemp('ranks')
    status, out, error = start('cpu', folder, __file__, folder, script=TWO_RANKS).finish(400)
    assert status == 0, out + error
    return folder


def distance(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def test_two_ranks_train_as_one_with_all_images(folder, one_process):
    one, _ = one_process
    names = [name for name in one if not name.startswith('start/')]
    assert len(names) > 35 * 4  # so many batch norms alone
    for number in range(2):
        rank = np.load(str(folder / ('rank%d.npz' % number)))
        for name in names:
            assert distance(rank[name], one[name]) < LIMIT, name
    assert one['losses'][-1] < 0.98 * one['losses'][0]
    moved = [distance(one['start/' + name], one[name]) for name in names if name != 'losses']
    assert np.median(moved) > 1e-3


def test_the_images_of_one_rank_train_otherwise(one_process):
    """Or the test above could not tell whether the ranks see each other's statistics."""
    one, alone = one_process
    for kind in ('losses', 'moving_variance', 'conv1/kernel'):
        names = [name for name in one if name.endswith(kind) and not name.startswith('start/')]
        assert max(distance(alone[name], one[name]) for name in names) > 1e-3, kind


if __name__ == '__main__':
    main(*sys.argv[1:])
