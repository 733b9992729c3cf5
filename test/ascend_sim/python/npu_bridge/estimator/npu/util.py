"""npu_bridge.estimator.npu.util. Differs: only what training uses is modelled."""

import os

import tensorflow.compat.v1 as tf
from ascend_sim import environment, release
from tensorflow.core.framework import variable_pb2
from tensorflow.python.framework import ops
from tensorflow.python.ops import resource_variable_ops

_RUNCONFIG = 'npu_runconfig'
LOOP_VARIABLES = ('iterations_per_loop', 'loop_cond', 'zero', 'one')

for _name in LOOP_VARIABLES:
    ops.register_proto_function(
        '%s_%s' % (_RUNCONFIG, _name),
        proto_type=variable_pb2.VariableDef,
        to_proto=resource_variable_ops._to_proto_fn,
        from_proto=resource_variable_ops._from_proto_fn,
    )


def check_positive_integer(value, name):
    check_integer(value, name)
    if value <= 0:
        raise ValueError('{} must be positive, got {}'.format(name, value))


def check_nonnegative_integer(value, name):
    check_integer(value, name)
    if value < 0:
        raise ValueError('{} must be nonnegative, got {}'.format(name, value))


def check_integer(value, name):
    if not isinstance(value, int):
        raise TypeError('{} must be int, got {}'.format(name, type(value)))


def check_bool_type(value, name):
    if not isinstance(value, bool):
        raise TypeError('{} must be True or False, got {}'.format(name, value))


def check_aoe_mode(aoe_mode):
    if aoe_mode not in ('1', '2', '4', 'mdat'):
        raise ValueError("aoe_mode:%s is invalid, should be in ['1', '2', '4', 'mdat']" % aoe_mode)


def check_path(path):
    """Real path of an existing folder that can be read and written, else ValueError."""
    if not os.path.exists(path):
        raise ValueError('path:%s is not exists.' % path)
    if not os.path.isdir(path):
        raise ValueError('path:%s is not directory.' % path)
    if not os.access(path, os.R_OK | os.W_OK):
        raise ValueError('path:%s is not read and write permissions.' % path)
    return os.path.realpath(path)


def get_ranksize():
    return environment.get_ranksize()


def create_or_get_var(var_name):
    """The int64 local variable npu_runconfig/<var_name> of the default graph."""
    collection = '%s_%s' % (_RUNCONFIG, var_name)
    found = tf.get_collection(collection)
    if found:
        return found[0]
    with tf.variable_scope(_RUNCONFIG, reuse=tf.AUTO_REUSE):
        return tf.get_variable(
            var_name,
            shape=[],
            dtype=tf.int64,
            initializer=tf.zeros_initializer(),
            trainable=False,
            collections=[collection, tf.GraphKeys.LOCAL_VARIABLES],
            use_resource=True,
        )


def load_loop_variables(session, iterations_per_loop):
    """Tells the device how often to repeat IterationOp."""
    for name, value in zip(LOOP_VARIABLES, (iterations_per_loop - 1, 0, 0, 1)):
        create_or_get_var(name).load(value, session=session)


def _operation(train_op):
    if not isinstance(train_op, tf.Operation):
        raise ValueError(
            "The incoming 'train_op' type is '%s', and the need type is 'Operation'"
            % train_op.dtype.name
        )


def set_iteration_per_loop(sess, train_op, iterations_per_loop):
    """Loads the loop's variables and returns train_op as a group named IterationOp (train_op itself
    for one iteration).
    """
    _operation(train_op)
    check_positive_integer(iterations_per_loop, 'iterations_per_loop')
    if iterations_per_loop == 1:
        return train_op
    with sess.graph.as_default():
        load_loop_variables(sess, iterations_per_loop)
        return tf.group(train_op, name='IterationOp')


class IterationPerLoop:
    """set_iteration_per_loop in two parts, for graphs that are finalised before there is a session."""

    def __init__(self):
        self._variables = None

    def create_iteration_per_loop_var(self, train_op):
        _operation(train_op)
        self._variables = [create_or_get_var(name) for name in LOOP_VARIABLES]
        return tf.group(train_op, name='IterationOp')

    def load_iteration_per_loop_var(self, sess, iterations_per_loop=1):
        check_positive_integer(iterations_per_loop, 'iterations_per_loop')
        for variable, value in zip(self._variables, (iterations_per_loop - 1, 0, 0, 1)):
            variable.load(value, session=sess)


release.publish(globals(), __name__)
