"""How the stand-in fails: like TensorFlow's C++ (an exception of tf.errors) or like LOG(FATAL) (the
process dies).

The real messages carry a C++ file and line; these carry the text alone.
"""

import os
import sys

import tensorflow.compat.v1 as tf


def invalid(message: str, op=None) -> Exception:
    """errors::InvalidArgument."""
    return tf.errors.InvalidArgumentError(op.node_def if op else None, op, message)


def internal(message: str, op=None) -> Exception:
    """errors::Internal."""
    return tf.errors.InternalError(op.node_def if op else None, op, message)


def fatal(message: str):
    """LOG(FATAL): the message on stderr, then signal 6. No Python code runs any more."""
    sys.stdout.flush()
    sys.stderr.write('F tf_adapter: %s\n' % message)
    sys.stderr.flush()
    os.abort()
