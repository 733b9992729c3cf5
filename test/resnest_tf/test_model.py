"""ResNeSt against its authors' PyTorch code, the published port's checkpoint, and both heads and
the port's graph written in NumPy.

data/resnest_authors.npz: a ResNeSt of the authors' PyTorch code, blocks 2-2-2-2, 1/16 of the
published filters and 5 classes: its state dict (random, in float16), images of two sizes, and in
eval mode the features of each stage and the logits, undilated and dilated.
data/resnest_authors_variables.json: parameters of their resnest50 and resnest101; names and shapes
of resnest50's state dict. data/resnest_port_variables.json: [name, shape, trainable] of the
published port's checkpoint.
"""

import collections
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from resnest_networks import deeplab, resnest

from resnest_tf.checkpoints import describe, from_torch, unused_variables

DATA = pathlib.Path(__file__).resolve().parent.parent / 'data'
TINY = dict(depth=14, width=1 / 32, num_classes=3)


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as fresh:
        yield fresh


@pytest.fixture(scope='module')
def authors():
    with np.load(str(DATA / 'resnest_authors.npz')) as archive:
        return {name: archive[name] for name in archive.files}


def build(height=48, width_=64, batch=2, **options):
    images = tf.placeholder(tf.float32, [batch, height, width_, 3], name='inputx')
    return (images,) + deeplab(images, **options)


def variables():
    trainable = set(tf.trainable_variables())
    return [[v.op.name, v.shape.as_list(), v in trainable] for v in tf.global_variables()]


def session_with(weights):
    """A session in which every variable of the graph has its value of `weights`; none may be left
    over.
    """
    names = {v.op.name: v for v in tf.global_variables()}
    assert set(names) == set(weights)
    session = tf.Session()
    session.run(
        [v.initializer for v in names.values()],
        {v.initializer.inputs[1]: weights[name] for name, v in names.items()},
    )
    return session


def random_weights(seed):
    """Values such that activations keep their size and every term of the network matters."""
    random = np.random.RandomState(seed)

    def value(name, shape):
        if len(shape) > 1:
            return random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        return (
            random.uniform(0.5, 1.2, shape)
            if name.endswith(('gamma', 'moving_variance'))
            else random.normal(0, 0.3, shape)
        )

    return {name: value(name, shape).astype(np.float32) for name, shape, _ in variables()}


def close(got, expected, tolerance=1e-4):
    assert got.shape == expected.shape
    assert np.ptp(expected) > 1e-2 * np.abs(expected).max()
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


# Against the authors


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
    assert (
        sum(np.prod(shape) for _, shape, trainable in variables() if trainable)
        == published['resnest%d' % depth]
    )
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
    moments({name: (value.std(), np.abs(value).max()) for name, value in theirs.items()})


# NumPy


def pad_same(x, size, stride, rate, value=0.0):
    pads = [(0, 0)]
    for pixels in x.shape[1:3]:
        total = max((-(-pixels // stride) - 1) * stride + (size - 1) * rate + 1 - pixels, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, pads + [(0, 0)], 'constant', constant_values=value)


def windows(x, size, stride=1, rate=1, value=0.0):
    """[size, size, N, H, W, C]: what each output pixel of a "same" layer sees."""
    height, width = [-(-pixels // stride) for pixels in x.shape[1:3]]
    x = pad_same(x, size, stride, rate, value)
    return np.array(
        [
            [
                x[
                    :,
                    rate * i : rate * i + stride * (height - 1) + 1 : stride,
                    rate * j : rate * j + stride * (width - 1) + 1 : stride,
                ]
                for j in range(size)
            ]
            for i in range(size)
        ]
    )


def relu(x):
    return np.maximum(x, 0)


def average(x, size, stride=1):
    """Over the pixels inside the image."""
    return np.nansum(windows(x, size, stride, 1, np.nan), (0, 1)) / windows(
        np.ones_like(x), size, stride
    ).sum((0, 1))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def resize(x, height, width, variant):
    """Bilinear; where output pixel p lies in the input is the variant's."""
    for axis, size in ((1, height), (2, width)):
        pixels, before = np.arange(size), x.shape[axis]
        position = {
            'port': pixels * before / size,
            'paper': pixels * (before - 1) / (size - 1),
            'mmsegmentation': np.clip((pixels + 0.5) * before / size - 0.5, 0, before - 1),
        }[variant]
        low = position.astype(int)
        share = (position - low).reshape([-1, 1] if axis == 2 else [-1, 1, 1])
        x = (
            np.take(x, low, axis) * (1 - share)
            + np.take(x, np.minimum(low + 1, x.shape[axis] - 1), axis) * share
        )
    return x


class Reference:
    """Layers over float64 weights by name; `leaves` as the variant calls them."""

    def __init__(self, weights, kernel, bias, norm):
        self.weights, self.leaves, self.used = (
            {name: value.astype(np.float64) for name, value in weights.items()},
            (kernel, bias, norm),
            set(),
        )

    def get(self, name):
        self.used.add(name)
        return self.weights[name]

    def conv(self, x, name, stride=1, rate=1, bias=False):
        kernel = self.get('%s/%s' % (name, self.leaves[0]))
        y = np.einsum(
            'ijnhwc,ijcf->nhwf', windows(x, len(kernel), stride, rate), kernel, optimize=True
        )
        return y + self.get('%s/%s' % (name, self.leaves[1])) if bias else y

    def norm(self, x, name):
        gamma, beta, mean, variance = [
            self.get('%s/%s' % (name, leaf))
            for leaf in ('gamma', 'beta', 'moving_mean', 'moving_variance')
        ]
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def layer(self, x, name, **options):
        return relu(self.norm(self.conv(x, name, **options), name + self.leaves[2]))

    def head(self, x, names, pool, pool_first=False):
        """names: of four convs, image pooling, the convs after the concatenation, classifier."""
        branches = [self.layer(x, name, rate=rate) for name, rate in zip(names, (1, 12, 24, 36))]
        pooled = self.layer(pool(x), names[4]) + np.zeros_like(branches[0])
        branches = [pooled] + branches if pool_first else branches + [pooled]
        x = np.concatenate(branches, 3)
        for name in names[5:-1]:
            x = self.layer(x, name)
        return self.conv(x, names[-1], bias=True)


def port_in_numpy(net, x):
    for number in (1, 2, 3):
        x = net.layer(x, 'conv1_%d' % number, stride=2 if number == 1 else 1)
    x = windows(x, 3, 2, 1, -np.inf).max((0, 1))
    numbers = iter(['Conv'] + ['Conv_%d' % number for number in range(1, 64)])
    for scope in '1_0 1_1 1_2 1_4 2_0 2_1 2_2 2_4 3_0 3_1 3_2 3_3 3_4 3_5 4_0 4_1'.split():
        reduce, _, shortcut, expand = [next(numbers) for _ in range(4)]
        scope, stride = 'resnest' + scope, 2 if scope == '1_4' else 1
        y = net.layer(x, reduce)
        y = average(y, 3, 2) if stride == 2 else y
        halves = [
            net.conv(half, scope + name, bias=True)
            for half, name in zip(np.split(y, 2, 3), ('/Conv', '/Conv_1'))
        ]
        a, b = np.split(relu(net.norm(np.concatenate(halves, 3), scope + '/BatchNorm')), 2, 3)
        attention = net.conv(
            net.layer((a + b).mean((1, 2), keepdims=True), scope + '/Conv_2'), scope + '/Conv_3'
        )
        for_a, for_b = np.split(attention, 2, 3)
        x = net.layer(x, shortcut, stride=stride) + net.layer(
            softmax(for_a) * a + softmax(for_b) * b, expand
        )
    return net.head(x, ['Conv_%d' % number for number in range(64, 72)], lambda y: average(y, 7))


@pytest.mark.parametrize('height, width', [(32, 48), (66, 35)])
def test_port_computes_its_published_graph(height, width):
    x, logits, aux = build(height, width, variant='port', width=1 / 32, num_classes=4)
    assert aux is None
    weights = random_weights(1)
    image = np.random.RandomState(2).normal(0, 1, (2, height, width, 3)).astype(np.float32)
    net = Reference(weights, 'weights', 'biases', '/BatchNorm')
    expected = resize(port_in_numpy(net, image), height, width, 'port')
    assert net.used == set(weights)
    with session_with(weights) as session:
        close(session.run(logits, {x: image}), expected)


@pytest.mark.parametrize('pooling', [[], [3, 3]])
@pytest.mark.parametrize('variant', ['paper', 'mmsegmentation'])
def test_heads_compute_deeplab_and_fcn(graph, pooling, variant):
    x, logits, aux = build(64, 80, image_pooling=pooling, variant=variant, **TINY)
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        stages, _ = resnest(x, depth=14, width=1 / 32, smooth_dilated=variant == 'paper')
    weights = random_weights(3)
    with session_with(weights) as session:
        image = np.random.RandomState(4).normal(0, 1, (2, 64, 80, 3))
        found, found_aux, third, fourth = session.run([logits, aux] + stages[2:], {x: image})
    assert third.shape[1:3] == fourth.shape[1:3] == (8, 10)
    net = Reference(weights, 'kernel', 'bias', '_bn')
    last = 'project conv logits' if variant == 'paper' else 'bottleneck logits'
    names = ['head/' + name for name in ('aspp1 aspp2 aspp3 aspp4 pool ' + last).split()]
    pool = (lambda y: y.mean((1, 2), keepdims=True)) if not pooling else (lambda y: average(y, 3))
    scores = net.head(fourth, names, pool, pool_first=variant == 'mmsegmentation')
    close(found, resize(scores, 64, 80, variant))
    scores = net.conv(net.layer(third, 'auxiliary/conv'), 'auxiliary/logits', bias=True)
    close(found_aux, resize(scores, 64, 80, variant))
    assert net.used == {name for name in weights if name.startswith(('head/', 'auxiliary/'))}


def test_mmsegmentation_pools_nothing_where_dilation_took_the_stride(graph):
    def pools(**options):
        with tf.Graph().as_default() as plain:
            resnest(tf.placeholder(tf.float32, [1, 64, 64, 3]), depth=14, width=1 / 32, **options)
            return sum(op.type == 'AvgPool' for op in plain.get_operations())

    assert (pools(), pools(smooth_dilated=False)) == (4, 2)  # two of them in stage 2


# Variables


def test_variables_of_the_port_are_those_of_its_checkpoint_in_their_order():
    build(512, 512, 1, variant='port')
    published = json.loads((DATA / 'resnest_port_variables.json').read_text())
    assert (
        len(published) == 596
        and sum(np.prod(shape) for _, shape, trainable in published if trainable) == 67563539
    )
    left_out = set(unused_variables([name for name, _, _ in published]))
    assert variables() == [row for row in published if row[0] not in left_out]
    assert len(variables()) == 596 - 16 * 5
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        build(512, 512, 1, variant='port', training=True)
    assert len(variables()) == 596 - 16 * 5


def test_width_scales_every_layer_but_the_classifiers():
    build(width=0.25, depth=14, num_classes=7)
    found = {name: shape for name, shape, _ in variables()}
    assert found['stem/conv1/kernel'] == [3, 3, 3, 8] and found['stem/conv3/kernel'] == [
        3,
        3,
        8,
        16,
    ]
    assert found['stage1/block1/split/conv2/kernel'] == [3, 3, 8, 16]
    assert found['stage1/block1/split/fc1/kernel'] == [
        1,
        1,
        16,
        32,
    ]  # never fewer than 32 (the authors' code)
    assert found['stage4/block1/split/fc1/kernel'] == [1, 1, 128, 64]
    assert found['stage4/block1/conv3/kernel'] == [1, 1, 128, 512]
    assert found['head/project/kernel'] == [1, 1, 5 * 64, 64]
    assert found['head/logits/kernel'] == [1, 1, 64, 7] and found['auxiliary/logits/kernel'] == [
        1,
        1,
        64,
        7,
    ]


def test_built_again_with_reuse_it_has_the_same_variables():
    build(**TINY)
    before = variables()
    with tf.variable_scope(tf.get_variable_scope(), reuse=True):
        build(training=True, **TINY)
    assert variables() == before


# The graph


@pytest.mark.parametrize(
    'variant, depth, pooling, dilated',
    [('paper', 50, [], {2: 2 * 6, 4: 2 * 2}), ('paper', 14, [5, 9], {2: 2}), ('port', 50, [], {})],
)
def test_inference_graph_has_plain_ops_and_the_known_output(
    graph, variant, depth, pooling, dilated
):
    _, logits, _ = build(
        variant=variant, depth=depth, width=1 / 32, image_pooling=pooling, aux_head=False
    )
    assert logits.name == 'resize/ResizeBilinear:0' and logits.shape.as_list() == [2, 48, 64, 19]
    needed = tf.graph_util.extract_sub_graph(graph.as_graph_def(), ['resize/ResizeBilinear']).node
    plain = {
        'Placeholder',
        'Const',
        'VariableV2',
        'Identity',
        'Conv2D',
        'FusedBatchNormV3',
        'Relu',
        'BiasAdd',
        'Split',
        'Add',
        'Mul',
        'Mean',
        'ConcatV2',
        'ResizeBilinear',
        'AvgPool',
        'MaxPool',
    } | ({'Sub', 'Sigmoid', 'Pad'} if variant == 'paper' else {'Softmax'})
    assert {node.op for node in needed} - plain == set()
    assert not any('_gradient_op_type' in node.attr for node in needed)
    rates = collections.Counter(
        node.attr['dilations'].list.i[1] for node in needed if node.op == 'Conv2D'
    )
    assert {rate: count for rate, count in rates.items() if rate > 1} == {
        12: 1,
        24: 1,
        36: 1,
        **dilated,
    }


def test_without_auxiliary_head_there_are_none_of_its_variables():
    _, _, aux = build(aux_head=False, **TINY)
    assert aux is None and not any(name.startswith('auxiliary') for name, _, _ in variables())


def test_every_variable_is_trained_on_a_cpu():
    x, logits, aux = build(training=True, **dict(TINY, depth=26))
    loss = tf.reduce_mean(tf.square(logits - 1)) + tf.reduce_mean(tf.square(aux - 1))
    gradients = tf.gradients(loss, tf.trainable_variables())
    assert not any(gradient is None for gradient in gradients)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        found = session.run(
            gradients, {x: np.random.RandomState(0).normal(0, 1, x.shape.as_list())}
        )
    assert all(np.isfinite(gradient).all() for gradient in found)
    zero = [
        v.op.name
        for v, gradient in zip(tf.trainable_variables(), found)
        if not gradient.any() and v.shape.ndims == 4
    ]
    assert zero == []


@pytest.mark.parametrize(
    'variant, decay, flags, updates',
    [
        ('paper', 0.9, dict(), False),
        ('paper', 0.9, dict(training=True), True),
        ('paper', 0.9, dict(training=True, freeze_bn=True), False),
        ('port', 0.997, dict(training=True), True),
    ],
)
def test_batch_norm_of_the_caller_takes_the_place_of_every_one(variant, decay, flags, updates):
    calls = []

    def batch_norm(x, name, decay, epsilon, training):
        calls.append((name, decay, epsilon, training))
        return tf.identity(x)

    options = dict(TINY, variant=variant, depth=14 if variant == 'paper' else 50, **flags)
    build(**options)
    names = [name[: -len('/gamma')] for name, _, _ in variables() if name.endswith('/gamma')]
    assert len(tf.get_collection(tf.GraphKeys.UPDATE_OPS)) == (2 * len(names) if updates else 0)
    with tf.Graph().as_default() as without:
        build(batch_norm=batch_norm, **options)
        assert not any('BatchNorm' in op.type for op in without.get_operations())
    assert calls == [(name, decay, 1e-5, updates) for name in names]


def test_dropout_precedes_both_classifiers_while_training():
    taken = []

    def dropout(x, rate, index):
        taken.append((x.op.type, rate, index))
        return x

    build(training=True, dropout_rate=0.1, dropout=dropout, **TINY)
    assert taken == [('Relu', 0.1, 0), ('Relu', 0.1, 1)]
    with tf.Graph().as_default():
        build(dropout_rate=0.1, dropout=dropout, aux_head=False, **TINY)
        assert len(taken) == 2
        with pytest.raises(ValueError, match='dropout function'):
            build(training=True, dropout_rate=0.1, **TINY)
