"""Training steps: what they may contain, iterations_per_loop, and sessions that are none of the
device's business.
"""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from ascend_sim import device, graph_check
from ascend_sim import session as sessions
from npu_bridge.estimator.npu.npu_config import NPURunConfig
from npu_bridge.estimator.npu.npu_estimator import NPUEstimator
from npu_bridge.hccl import hccl_ops
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from hccl.split.api import set_split_strategy_by_idx


def dataset(drop_remainder=True):
    """uint8 images by way of numpy_function, which is the dataset's own affair."""

    def image(number):
        pixels = tf.numpy_function(lambda n: np.full([4, 4, 1], n, np.uint8), [number], tf.uint8)
        pixels.set_shape([4, 4, 1])
        return pixels

    return tf.data.Dataset.range(200).map(image).batch(4, drop_remainder=drop_remainder)


def build(change=lambda x: x, **arguments):
    """A little network; returns the iterator's initialiser and the training op."""
    iterator = tf.data.make_initializable_iterator(dataset(**arguments))
    x = change(tf.cast(iterator.get_next(), tf.float32) / 255)
    x = tf.layers.batch_normalization(tf.layers.conv2d(x, 2, 3, padding='same'), training=True)
    loss = tf.reduce_mean(tf.square(tf.layers.dense(tf.reduce_mean(x, [1, 2]), 1) - 1))
    step = tf.train.get_or_create_global_step()
    return iterator.initializer, tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss, step)


def run(session, *initializers):
    session.run([tf.global_variables_initializer()] + list(initializers))


def shaped(x):
    x.set_shape([4, 4, 4, 1])
    return x


def after(x, op):
    with tf.control_dependencies([op]):
        return tf.identity(x)


def host(x, name=None):
    return shaped(tf.py_func(lambda a: a, [x], tf.float32, name=name))


def sane(x):
    with tf.control_dependencies([tf.Assert(tf.reduce_all(x < 2), [x])]):
        return tf.cond(tf.reduce_sum(x) > 1e9, lambda: x + 1, lambda: x)


@pytest.mark.parametrize('change', [lambda x: x, sane])
def check_a_healthy_step(npu_session, change):
    initializer, train = build(change)
    session = npu_session(precision_mode='allow_mix_precision')
    run(session, initializer)
    for _ in range(3):
        session.run(train)
    assert session.run(tf.train.get_global_step()) == 3


@pytest.mark.parametrize(
    'name, change, reason',
    [
        ('python', lambda x: host(x, 'python'), 'runs Python inside the step'),
        ('fed', lambda x: x * tf.placeholder(tf.float32, [], name='fed'), 'is fed'),
        (
            'text',
            lambda x: x * tf.strings.to_number(tf.strings.as_string(x, name='text')),
            'string output',
        ),
        (
            'summary',
            lambda x: after(x, tf.summary.scalar('summary', tf.reduce_sum(x))),
            'is a summary',
        ),
        (
            'queue',
            lambda x: after(x, tf.FIFOQueue(1, tf.float32, name='queue').size()),
            'is a queue',
        ),
        (
            'sometimes',
            lambda x: tf.reshape(
                tf.boolean_mask(x, x[:, 0, 0, 0] < 2, name='sometimes'), [-1, 4, 4, 1]
            ),
            'unknown shape',
        ),
        ('', lambda x: shaped(tf.function(host)(x)), 'PyFunc'),
    ],
)
def check_what_a_step_may_not_contain(npu_session, name, change, reason):
    initializer, train = build(change)
    session = npu_session()
    with pytest.raises(
        tf.errors.InvalidArgumentError, match='cannot run on the device: .*' + reason
    ) as caught:
        run(session, initializer)
        session.run(train)
    assert name in str(caught.value).split('\n')[0]


@pytest.mark.parametrize('threads, hangs', [(1, True), (2, False)])
def check_iterator_needs_a_second_thread(monkeypatch, make_config, threads, hangs):
    monkeypatch.setattr(sessions, 'pool', None)  # as in a new process
    initializer, _ = build()
    config = make_config()
    config.inter_op_parallelism_threads = threads
    with tf.Session(config=config) as session:
        if hangs:
            with pytest.raises(tf.errors.InternalError, match='MakeIterator hangs'):
                session.run(initializer)
        else:
            session.run(initializer)


def check_partial_batch_and_feeds_are_refused(npu_session):
    initializer, train = build(drop_remainder=False)
    session = npu_session()
    run(session, initializer)
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r'IteratorGetNext.*unknown shape \(\?, 4, 4, 1\).*drop_remainder',
    ):
        session.run(train)
    with pytest.raises(tf.errors.InvalidArgumentError, match='is fed'):
        session.run(train, {'conv2d/kernel/read:0': np.zeros([3, 3, 1, 2])})


def check_one_shot_iterator(npu_session, dies):
    images = dataset().map(lambda x: tf.ones([4]))
    x = tf.data.make_one_shot_iterator(images).get_next()
    train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.get_variable('w', []) * x)
    session = npu_session()
    run(session)
    with pytest.raises(tf.errors.InvalidArgumentError, match='one-shot'):
        session.run(train)
    assert 'iterator_per_loop only support 1 when using OneShotIterator' in dies(
        lambda: graph_check.check([train], 2)
    )


def check_estimator_loop(tmp_path):
    """Hooks see every fifth step, checkpoints are at multiples, weights as without a loop."""
    seen, weights = [], []

    class Watch(tf.train.SessionRunHook):
        def after_run(self, run_context, run_values):
            seen.append(int(run_context.session.run(tf.train.get_global_step())))

    def model_fn(features, labels, mode):
        loss = tf.reduce_mean(tf.square(tf.layers.dense(features, 1) - labels))
        train = tf.train.GradientDescentOptimizer(0.01).minimize(loss, tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train, training_hooks=[Watch()])

    def input_fn():
        x = np.random.RandomState(0).rand(99, 3).astype('f')
        pairs = tf.data.Dataset.from_tensor_slices((x, x.sum(1, keepdims=True)))
        return pairs.batch(2, drop_remainder=True)

    for loop in (1, 5):
        config = NPURunConfig(
            model_dir=str(tmp_path / str(loop)),
            tf_random_seed=1,
            iterations_per_loop=loop,
            save_checkpoints_steps=10,
        )
        estimator = NPUEstimator(model_fn=model_fn, config=config)
        estimator.train(input_fn, max_steps=20)
        weights.append(estimator.get_variable_value('dense/kernel'))
    np.testing.assert_array_equal(*weights)
    assert seen == list(range(1, 21)) + [5, 10, 15, 20]
    names = sorted(path.stem for path in (tmp_path / '5').glob('*.index'))
    assert names == ['model.ckpt-0', 'model.ckpt-10', 'model.ckpt-20']
    assert not device.initialised()
    with pytest.raises(ValueError, match='steps: 7 is no multiple of iterations_per_loop=5'):
        estimator.train(input_fn, steps=7)


def check_loop_rules(npu_session):
    initializer, train = build()
    session = npu_session(iterations_per_loop=5, enable_data_pre_proc=True)
    run(session, initializer)
    with pytest.raises(tf.errors.InvalidArgumentError, match='not named IterationOp'):
        session.run(train)
    loop = tf.group(train, name='IterationOp')
    with pytest.raises(tf.errors.InvalidArgumentError, match='without the variable'):
        npu_session(iterations_per_loop=5, enable_data_pre_proc=True).run(loop)
    with pytest.raises(tf.errors.InvalidArgumentError, match='needs enable_data_pre_proc=True'):
        npu_session(iterations_per_loop=5).run(loop)


def check_other_sessions_are_left_alone():
    initializer, train = build(host)
    with tf.Session() as session:
        run(session, initializer)
        session.run(train)
        assert not device.initialised()


def check_options_are_checked_at_the_first_run(npu_session, dies):
    session, work = npu_session(precision_mode='bogus'), tf.constant(1) + 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="'bogus' is invalid"):
        session.run(work)
    session = npu_session(iterations_per_loop=0)
    assert 'F tf_adapter: iterator_per_loop should be int and must >= 1' in dies(
        lambda: session.run(work)
    )


def check_session_with_default_rewriting(make_config):
    config = make_config()
    config.graph_options.rewrite_options.remapping = RewriterConfig.DEFAULT
    with tf.Session(config=config) as session, pytest.raises(
        tf.errors.InvalidArgumentError, match='remapping'
    ):
        session.run(tf.constant(1) + 1)


def check_shut_down_under_an_open_session(npu_session):
    work = tf.constant(1) + 1
    session = npu_session()
    assert session.run(work) == 2
    device.finalise()
    with pytest.raises(tf.errors.InternalError, match='shut down and started again'):
        session.run(work)


def check_split_must_end_at_the_last_gradient(npu_session, monkeypatch):
    monkeypatch.setattr(device, 'has_hcom', lambda: True)
    weights = [tf.get_variable(name, []) for name in 'ab']
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    gradients = optimizer.compute_gradients(weights[0] * weights[1])
    train = optimizer.apply_gradients(
        [(hccl_ops.allreduce(gradient, 'sum'), weight) for gradient, weight in gradients]
    )
    session = npu_session()
    run(session)
    set_split_strategy_by_idx([0, 2])
    with pytest.raises(tf.errors.InternalError, match='there are 2 gradients, so it must be 1'):
        session.run(train)
    set_split_strategy_by_idx([0, 1])
    session.run(train)
