"""Sessions that do not optimise their graphs: that takes longer than the few steps a test runs."""

from unittest import mock

import tensorflow as tf
from tensorflow.python.client import session as session_lib


def _start(self, target='', graph=None, config=None, start=session_lib.BaseSession.__init__):
    plain = tf.ConfigProto()
    plain.CopyFrom(config or plain)
    plain.graph_options.rewrite_options.disable_meta_optimizer = True
    start(self, target, graph, plain)


def patched():
    """Returns a patch after which sessions are of that kind, those of the stand-in for Ascend too:
    it checks the options that it is given before they are changed here.
    """
    return mock.patch.object(session_lib.BaseSession, '__init__', _start)
