"""Training steps: what they may contain, iterations_per_loop, and sessions that are none of the
device's business.
"""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from ascend_sim import device
from npu_bridge.estimator.npu import npu_scope, util
from npu_bridge.estimator.npu.npu_config import NPURunConfig
from npu_bridge.estimator.npu.npu_estimator import NPUEstimator
from npu_bridge.hccl import hccl_ops
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from hccl.split.api import set_split_strategy_by_idx


def dataset(drop_remainder=True, count=1000):
    """uint8 images by way of numpy_function, which is the dataset's own affair."""

    def image(number):
        pixels = tf.numpy_function(
            lambda item: np.full([4, 4, 1], item % 256, np.uint8), [number], tf.uint8
        )
        pixels.set_shape([4, 4, 1])
        return pixels

    return tf.data.Dataset.range(count).map(image).batch(4, drop_remainder=drop_remainder)


def build(change=lambda x: x, **arguments):
    """A little network; returns the iterator's initialiser and the training op."""
    iterator = tf.data.make_initializable_iterator(dataset(**arguments))
    x = change(tf.cast(iterator.get_next(), tf.float32) / 255)
    x = tf.layers.batch_normalization(tf.layers.conv2d(x, 2, 3, padding='same'), training=True)
    x = tf.reduce_mean(tf.nn.relu(x * tf.get_variable('scale', [2])), [1, 2])
    loss = tf.reduce_mean(tf.square(tf.layers.dense(x, 1) - 1))
    step = tf.train.get_or_create_global_step()
    return iterator.initializer, tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss, step)


def run(session, *initializers):
    session.run(
        [tf.global_variables_initializer(), tf.local_variables_initializer()] + list(initializers)
    )


def check_a_healthy_step(npu_session):
    initializer, train = build()
    session = npu_session(precision_mode='allow_mix_precision')
    run(session, initializer)
    for _ in range(3):
        session.run(train)
    assert session.run(tf.train.get_global_step()) == 3


@pytest.mark.parametrize(
    'name, change, reason',
    [
        (
            'python',
            lambda x: shaped(tf.py_func(lambda a: a, [x], tf.float32, name='python')),
            'runs Python inside the step',
        ),
        (
            'python',
            lambda x: shaped(tf.numpy_function(lambda a: a, [x], tf.float32, name='python')),
            'runs Python',
        ),
        ('fed', lambda x: x * tf.placeholder_with_default(1.0, [], name='fed'), 'is fed'),
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
        (
            'body',
            lambda x: shaped(tf.function(lambda a: tf.py_func(lambda b: b, [a], tf.float32))(x)),
            'PyFunc',
        ),
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
    assert name == 'body' or name in str(caught.value).split('\n')[0]


def shaped(x):
    x.set_shape([4, 4, 4, 1])
    return x


def after(x, op):
    with tf.control_dependencies([op]):
        return tf.identity(x)


def check_partial_batch_is_refused(npu_session):
    initializer, train = build(drop_remainder=False)
    session = npu_session()
    run(session, initializer)
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r'IteratorGetNext.*unknown shape \(\?, 4, 4, 1\).*drop_remainder',
    ):
        session.run(train)


def check_asserts_and_cond_are_legal(npu_session):
    def change(x):
        with tf.control_dependencies([tf.Assert(tf.reduce_all(x < 2), [x], name='sane')]):
            return tf.cond(tf.reduce_sum(x) > 1e9, lambda: x + 1, lambda: x)

    initializer, train = build(change)
    session = npu_session()
    run(session, initializer)
    session.run(train)


def check_mix_compile_mode_allows_host_ops(npu_session):
    initializer, train = build(
        lambda x: x + tf.reshape(tf.py_func(lambda a: a, [x], tf.float32), [4, 4, 4, 1])
    )
    session = npu_session(mix_compile_mode=True)
    run(session, initializer)
    session.run(train)


def check_feeding_a_step(npu_session):
    initializer, train = build()
    session = npu_session()
    run(session, initializer)
    with pytest.raises(tf.errors.InvalidArgumentError, match='is fed'):
        session.run(train, {'conv2d/kernel/read:0': np.zeros([3, 3, 1, 2])})


def check_one_shot_iterator(npu_session, dies):
    x = tf.cast(
        tf.data.make_one_shot_iterator(
            tf.data.Dataset.range(9).batch(4, drop_remainder=True)
        ).get_next(),
        tf.float32,
    )
    train = tf.train.GradientDescentOptimizer(0.1).minimize(
        tf.reduce_sum(tf.get_variable('w', [4]) * x)
    )
    session = npu_session()
    run(session)
    with pytest.raises(tf.errors.InvalidArgumentError, match='one-shot'):
        session.run(train)
    looped = npu_session(iterations_per_loop=2, enable_data_pre_proc=True)
    run(looped)
    loop = util.set_iteration_per_loop(looped, train, 2)
    # TensorFlow's threads do not survive a fork, so the dying child only checks the graph.
    from ascend_sim import graph_check

    assert 'iterator_per_loop only support 1 when using OneShotIterator' in dies(
        lambda: graph_check.check([loop], 2, False)
    )


def check_loop(npu_session):
    """Five steps a call; the same weights as five calls."""
    weights = []
    for iterations in (1, 5):
        tf.reset_default_graph()
        tf.set_random_seed(3)
        initializer, train = build()
        session = npu_session(iterations_per_loop=iterations, enable_data_pre_proc=True)
        run(session, initializer)
        train = util.set_iteration_per_loop(session, train, iterations)
        assert (train.name == 'IterationOp') == (iterations == 5)
        for call in range(10 // iterations):
            session.run(train)
            assert session.run(tf.train.get_global_step()) == (call + 1) * iterations
        weights.append(session.run(tf.trainable_variables()))
        session.close()
    for one, other in zip(*weights):
        np.testing.assert_array_equal(one, other)


def check_loop_rules(npu_session):
    initializer, train = build()
    with pytest.raises(ValueError, match="type is 'float32', and the need type is 'Operation'"):
        util.set_iteration_per_loop(None, tf.zeros([]), 2)
    session = npu_session(iterations_per_loop=5, enable_data_pre_proc=True)
    run(session, initializer)
    with pytest.raises(tf.errors.InvalidArgumentError, match='not named IterationOp'):
        session.run(train)
    pair = util.IterationPerLoop()
    loop = pair.create_iteration_per_loop_var(train)
    with pytest.raises(tf.errors.InvalidArgumentError, match='never loaded'):
        session.run(loop)
    pair.load_iteration_per_loop_var(session, 4)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match='is 5 in the parameter_map, but 4 was loaded'
    ):
        session.run(loop)
    pair.load_iteration_per_loop_var(session, 5)
    session.run(loop)
    assert session.run(tf.train.get_global_step()) == 5
    other = npu_session(iterations_per_loop=5)
    with pytest.raises(tf.errors.InvalidArgumentError, match='needs enable_data_pre_proc=True'):
        other.run(loop)


def check_estimator_loop(tmp_path):
    """Hooks see every n-th step, checkpoints come at multiples, losses at the last step of a loop."""
    seen = []

    class Watch(tf.train.SessionRunHook):
        def after_run(self, run_context, run_values):
            seen.append(int(run_context.session.run(tf.train.get_global_step())))

    def model_fn(features, labels, mode):
        loss = tf.reduce_mean(tf.square(tf.layers.dense(features, 1) - labels))
        train = tf.train.GradientDescentOptimizer(0.01).minimize(loss, tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train, training_hooks=[Watch()])

    def input_fn():
        return (
            tf.data.Dataset.from_tensors((np.ones([3], 'f'), np.ones([1], 'f')))
            .repeat()
            .batch(2, drop_remainder=True)
        )

    config = NPURunConfig(
        model_dir=str(tmp_path),
        iterations_per_loop=5,
        save_checkpoints_steps=10,
        keep_checkpoint_max=9,
    )
    estimator = NPUEstimator(model_fn=model_fn, config=config)
    estimator.train(input_fn, max_steps=20)
    assert seen == [5, 10, 15, 20]
    assert sorted(path.stem for path in tmp_path.glob('*.index')) == [
        'model.ckpt-0',
        'model.ckpt-10',
        'model.ckpt-20',
    ]
    assert not device.initialised()
    estimator.train(input_fn, steps=5)
    assert seen[4:] == [25]


def check_other_sessions_are_left_alone():
    initializer, train = build(
        lambda x: x + tf.reshape(tf.py_func(lambda a: a, [x], tf.float32), [4, 4, 4, 1])
    )
    with tf.Session() as session:
        run(session, initializer)
        session.run(train)
        assert not device.initialised()


def check_options_are_checked_at_the_first_run(npu_session):
    session = npu_session(precision_mode='bogus')  # as in reality, not before
    with pytest.raises(tf.errors.InvalidArgumentError, match="'bogus' is invalid"):
        session.run(tf.constant(1) + 1)


def check_abort_at_the_first_run(npu_session, dies):
    work, session = tf.constant(1) + 1, npu_session(iterations_per_loop=0)
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


def check_make_callable(npu_session):
    x = tf.placeholder(tf.float32)
    assert npu_session().make_callable(x + 1, [x])(2) == 3 and device.initialised()


def check_shut_down_under_an_open_session(npu_session):
    work = tf.constant(1) + 1
    session = npu_session()
    assert session.run(work) == 2
    device.finalise()
    with pytest.raises(tf.errors.InternalError, match='shut down and started again'):
        session.run(work)


def check_split_must_end_at_the_last_gradient(npu_session, monkeypatch):
    monkeypatch.setattr(device, 'has_hcom', lambda: True)
    iterator = tf.data.make_initializable_iterator(dataset())
    weights = [tf.get_variable(name, []) for name in 'ab']
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    gradients = optimizer.compute_gradients(
        tf.reduce_sum(tf.cast(iterator.get_next(), tf.float32)) * weights[0] * weights[1]
    )
    train = optimizer.apply_gradients(
        [(hccl_ops.allreduce(gradient, 'sum'), weight) for gradient, weight in gradients]
    )
    session = npu_session()
    run(session, iterator.initializer)
    set_split_strategy_by_idx([0, 2])
    with pytest.raises(tf.errors.InternalError, match='there are 2 gradients, so it must be 1'):
        session.run(train)
    set_split_strategy_by_idx([0, 1])
    session.run(train)


def check_scopes_mark_their_nodes():
    with npu_scope.keep_dtype_scope():
        op = tf.constant(1.0).op
    assert op.get_attr('_keep_dtype') == 1
    with pytest.raises(ValueError, match='slice_num must be positive'):
        npu_scope.npu_graph_slice_scope(0)
