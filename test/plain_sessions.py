"""Sessions that do not optimise their graphs, checkpoints and event files without graphs: these
take longer than the few steps that a test runs.
"""

import contextlib
from unittest import mock

import tensorflow as tf
from tensorflow.python.client import session as session_lib
from tensorflow.python.summary.writer import writer


def _start(self, target='', graph=None, config=None, start=session_lib.BaseSession.__init__):
    plain = tf.ConfigProto()
    plain.CopyFrom(config or plain)
    plain.graph_options.rewrite_options.disable_meta_optimizer = True
    start(self, target, graph, plain)


def _open(self, event_writer, *_, start=writer.SummaryToEventTransformer.__init__, **__):
    start(self, event_writer)


@contextlib.contextmanager
def patched():
    """Within it, sessions, checkpoints and event files are of that kind, sessions of the stand-in
    for Ascend too: it checks the options that it is given before they are changed here.
    """
    sessions = mock.patch.object(session_lib.BaseSession, '__init__', _start)
    events = mock.patch.multiple(
        writer.SummaryToEventTransformer, __init__=_open, add_graph=lambda *_: None
    )
    checkpoints = mock.patch.object(tf.train.Saver, 'export_meta_graph', lambda *_, **__: None)
    with sessions, events, checkpoints:
        yield
