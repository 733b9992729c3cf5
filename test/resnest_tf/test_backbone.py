"""ResNeSt against its authors' PyTorch code; initial values of all variants.

data/resnest_authors.npz: a ResNeSt of the authors' PyTorch code, blocks 2-2-2-2, 1/16 of the
published filters and 5 classes: its state dict (random, in float16), images of two sizes, and in
eval mode the features of each stage and the logits, undilated and dilated.
data/resnest_authors_variables.json: parameters of their resnest50 and resnest101; names and shapes
of resnest50's state dict.
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from graph_variables import parameters, session_with, variables
from resnest_networks import DATA, build, close, resnest

from resnest_tf.checkpoints import describe, from_torch


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as fresh:
        yield fresh


@pytest.fixture(scope='module')
def authors():
    with np.load(str(DATA / 'resnest_authors.npz')) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.parametrize(
    'size', ['65x51', '64x48']
)  # odd sizes: pooling by 2 meets a last row and column of its own
@pytest.mark.parametrize('stride', [32, 8])
def test_backbone_computes_what_the_authors_code_computes(authors, size, stride):
    images = authors['images_' + size]
    x = tf.placeholder(tf.float32, images.shape)
    stages, logits = resnest(x, depth=26, width=1 / 16, output_stride=stride, num_classes=5)
    weights = from_torch(
        {
            name: value
            for name, value in authors.items()
            if '_' not in name.split('.')[0] and '/' not in name
        }
    )
    weights.update({'fc/kernel': authors['fc.weight'].T, 'fc/bias': authors['fc.bias']})
    with session_with(weights) as session:
        found, found_logits = session.run([stages, logits], {x: images})
    compared = 0
    for number, stage in enumerate(found, start=1):
        # Stages 1 and 2 are the same at both strides.
        for name in (
            '%s/stride%d/stage%d' % (size, stride, number),
            '%s/stride32/stage%d' % (size, number),
        ):
            if name in authors and (number < 3 or 'stride%d/' % stride in name):
                close(stage, authors[name])
                compared += 1
                break
    assert compared == (4 if size == '65x51' else 2)
    close(found_logits, authors['%s/stride%d/logits' % (size, stride)])


@pytest.mark.parametrize('depth', [50, 101])
def test_parameters_are_those_of_the_authors_networks(depth):
    resnest(tf.placeholder(tf.float32, [1, 32, 32, 3]), depth=depth, num_classes=1000)
    published = json.loads((DATA / 'resnest_authors_variables.json').read_text())['parameters']
    assert parameters() == published['resnest%d' % depth]
    assert round(published['resnest50'] / 1e6, 1) == 27.5
    shapes = {name: shape for name, shape, _ in variables()}
    assert describe(shapes).flags['depth'] == depth


def moments(wanted):
    """Compares variables of the graph with {name: (standard deviation, largest or None)}."""
    chosen = {v.op.name: v for v in tf.global_variables() if v.op.name in wanted}
    with tf.Session() as session:
        session.run(tf.variables_initializer(list(chosen.values())))
        for name, value in session.run(chosen).items():
            deviation, largest = wanted[name]
            assert abs(value.std() / deviation - 1) < 0.05 and abs(value.mean()) < deviation / 20
            if largest:
                assert 0.9 < np.abs(value).max() / largest < 1.0001, name
    assert set(chosen) == set(wanted)


def test_initial_kernels_are_drawn_as_the_authors_do():
    """The backbone's with deviation sqrt(2 / (size^2 x filters)); split attention's halves are one
    conv of twice the filters there. The head's are PyTorch's, uniform within 1 / sqrt(fan in).
    """
    build(64, 64, depth=14, num_classes=100)
    backbones = {
        'stem/conv2/kernel': 2 / (9 * 32),
        'stage3/block1/conv1/kernel': 2 / 256,
        'stage3/block1/split/conv2/kernel': 2 / (9 * 512),
        'stage3/block1/split/fc2/kernel': 2 / 512,
        'stage4/block1/shortcut/kernel': 2 / 2048,
    }
    heads = {
        'head/aspp2/kernel': 9 * 2048,
        'head/project/kernel': 5 * 256,
        'head/logits/kernel': 256,
        'auxiliary/conv/kernel': 9 * 1024,
    }
    moments({name: (np.sqrt(variance), None) for name, variance in backbones.items()})
    moments({name: (1 / np.sqrt(3 * fan), fan**-0.5) for name, fan in heads.items()})


def test_initial_kernels_are_drawn_as_mmsegmentation_does():
    build(64, 64, depth=14, num_classes=100, variant='mmsegmentation')
    moments(
        {
            'head/aspp1/kernel': (np.sqrt(2 / 512), None),
            'head/bottleneck/kernel': (np.sqrt(2 / (9 * 512)), None),
            'head/logits/kernel': (0.01, None),
            'auxiliary/conv/kernel': (np.sqrt(2 / (9 * 256)), None),
        }
    )


def test_initial_kernels_of_the_port_are_those_of_slims_variance_scaling():
    build(64, 64, depth=50, num_classes=100, variant='port', width=0.25)
    initializer = tf.contrib.layers.variance_scaling_initializer()
    shapes = {'conv1_3/weights': [3, 3, 16, 32 * 8], 'Conv_64/weights': [1, 1, 512, 64]}
    with tf.Session() as session:  # with more filters the deviation is known more exactly
        theirs = {name: session.run(initializer(shape)) for name, shape in shapes.items()}
    # Truncated at two deviations, before which the variance is 1.3 x factor / fan in.
    bounds = {name: 2 * np.sqrt(1.3 * 2 / np.prod(shape[:3])) for name, shape in shapes.items()}
    assert all(np.abs(theirs[name]).max() <= bounds[name] * 1.0001 for name in shapes)
    moments({name: (value.std(), bounds[name]) for name, value in theirs.items()})
