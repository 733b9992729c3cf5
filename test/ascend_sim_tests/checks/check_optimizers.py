"""Loss scale, overflow and dropout, against arithmetic written out here."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from ascend_sim import overflow
from npu_bridge.estimator import npu_ops
from npu_bridge.estimator.npu import npu_scope
from npu_bridge.estimator.npu.npu_loss_scale_manager import (
    ExponentialUpdateLossScaleManager,
    FixedLossScaleManager,
)
from npu_bridge.estimator.npu.npu_loss_scale_optimizer import NPULossScaleOptimizer
from npu_bridge.estimator.npu.npu_optimizer import NPUDistributedOptimizer


def descent(make, slope=1.0, rate=0.1):
    """w -= rate * slope, by an optimizer made around gradient descent: (w, step, training op)."""
    weight = tf.get_variable('w', [], initializer=tf.zeros_initializer())
    step = tf.train.get_or_create_global_step()
    optimizer = make(tf.train.GradientDescentOptimizer(rate))
    return weight, step, optimizer.minimize(weight * slope, step)


def fixed(scale, *flags):
    return lambda opt: NPULossScaleOptimizer(
        NPUDistributedOptimizer(opt), FixedLossScaleManager(scale, *flags)
    )


@pytest.mark.parametrize('make', [fixed(1024), NPUDistributedOptimizer])
def check_scale_cancels_out(npu_session, make):
    weight, step, train = descent(make, slope=3.0)
    session = npu_session()
    session.run(tf.global_variables_initializer())
    for _ in range(4):
        session.run(train)
    assert session.run([weight, step]) == [pytest.approx(-1.2), 4]


def check_overflow_skips_the_step(npu_session, monkeypatch):
    monkeypatch.setenv('ASCEND_SIM_OVERFLOW', '2,3:0,4:1')  # 4 is another rank's
    weight, step, train = descent(fixed(2.0))
    session = npu_session()
    session.run(tf.global_variables_initializer())
    seen = [session.run(train) or tuple(session.run([step, weight])) for _ in range(5)]
    np.testing.assert_allclose(
        seen, [(1, -0.1), (1, -0.1), (1, -0.1), (2, -0.2), (3, -0.3)], rtol=1e-6
    )
    overflow.raise_flag()
    session.run(train)
    assert session.run(step) == 3
    session.run(train)
    assert session.run(step) == 4  # the flag was cleared


@pytest.mark.parametrize(
    'slope, applied',
    [(65504.0, True), (65600.0, False), (-1e30, False), (np.inf, False), (np.nan, False)],
)
def check_large_gradients_saturate(npu_session, slope, applied):
    """Without the check the clamped gradient is applied; with it the step is skipped."""
    for flags, expected in (((), int(applied)), ((False,), 1)):
        tf.reset_default_graph()
        weight, step, train = descent(fixed(1.0, *flags), slope=slope, rate=1.0)
        session = npu_session()
        session.run(tf.global_variables_initializer())
        session.run(train)
        assert session.run(step) == expected
    assert session.run(weight) == (0 if np.isnan(slope) else -np.clip(slope, -65504, 65504))


def expected_scales(finite, scale, every, bad_every, up, down):
    """The adapter's rule in plain Python: bad steps need not be consecutive, good ones do."""
    good = bad = 0
    for ok in finite:
        good, bad = (good + 1, bad) if ok else (0 if bad + 1 < bad_every else good, bad + 1)
        if ok and good >= every:
            scale, good, bad = (scale * up if scale < 3.4e38 / up else scale), 0, 0
        elif not ok and bad >= bad_every:
            scale, good, bad = max(1.0, scale * down), 0, 0
        yield scale


@pytest.mark.parametrize(
    'start, every, bad_every, up, down',
    [(8.0, 3, 2, 2, 0.5), (1.5, 2, 1, 2, 0.5), (2.0**127, 1, 2, 2, 0.8)],
)
def check_exponential_scale(start, every, bad_every, up, down):
    finite = np.random.RandomState(1).rand(40) < 0.7
    manager = ExponentialUpdateLossScaleManager(start, every, bad_every, up, down)
    flag = tf.placeholder(tf.bool, [])
    update = manager.update_loss_scale(flag)
    assert [
        (variable.op.name, variable.dtype.base_dtype) for variable in tf.global_variables()
    ] == [('loss_scale', tf.float32), ('good_steps', tf.int32), ('bad_steps', tf.int32)]
    assert not tf.trainable_variables()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        found = []
        for ok in finite:
            session.run(update, {flag: ok})
            found.append(session.run(manager.get_loss_scale()))
    np.testing.assert_allclose(
        found, list(expected_scales(finite, start, every, bad_every, up, down)), rtol=1e-5
    )


def check_arguments():
    with pytest.raises(ValueError, match='loss scale must be at least 1.'):
        FixedLossScaleManager(0.5)
    with pytest.raises(TypeError):
        NPULossScaleOptimizer(
            tf.train.GradientDescentOptimizer(1), FixedLossScaleManager(1), distributed=True
        )


def check_dropout_and_scope(npu_session):
    with pytest.raises(ValueError, match='range \\(0, 1\\], got 0'):
        npu_ops.dropout(tf.ones([4]), 0)
    assert npu_ops.dropout(tf.ones([4], name='same'), 1.0).op.name == 'same'
    found = npu_session().run(npu_ops.dropout(tf.ones([10000]), 0.8, seed=1))
    assert set(np.round(found, 4)) == {0, 1.25} and abs((found > 0).mean() - 0.8) < 0.02
    with npu_scope.keep_dtype_scope():
        assert tf.constant(1.0).op.get_attr('_keep_dtype') == 1
