"""Fixtures of the checks that run in a process with the stand-in on its path (see
../test_ascend_sim.py).
"""

import os
import re
import sys
import tempfile
import warnings

import pytest

warnings.filterwarnings('ignore')


@pytest.fixture(scope='module', autouse=True)
def sessions():
    """Those of the stand-in."""


@pytest.fixture(autouse=True)
def server(tmp_path, monkeypatch):
    """A server of its own for every check: no locks, no rank table, nothing initialised."""
    import npu_bridge  # noqa: F401  patches tf.Session
    import tensorflow.compat.v1 as tf
    from ascend_sim import device, options, overflow, session

    for name in list(os.environ):
        if re.match(r'(RANK_|DEVICE_|ASCEND_|CM_|HCCL_|HOROVOD_|POD_NAME|TF_CONFIG)', name):
            monkeypatch.delenv(name)
    monkeypatch.setenv('JOB_ID', '1')
    monkeypatch.setenv('ASCEND_SIM_DIR', str(tmp_path / 'sim'))
    monkeypatch.setattr(session, 'pool', 2)
    monkeypatch.setattr(overflow, '_steps', 0)
    monkeypatch.setattr(overflow, '_flag', False)
    tf.reset_default_graph()
    yield
    device.finalise()
    device._users.clear()
    device._starters.clear()
    device.split.clear()
    options._kept.clear()


@pytest.fixture
def dies():
    """dies(function): runs it in a fork, which must end by SIGABRT; returns its stderr."""

    def run(function):
        with tempfile.TemporaryFile() as log:
            child = os.fork()
            if not child:
                os.dup2(log.fileno(), 2)
                sys.stderr = os.fdopen(2, 'w')
                try:
                    function()
                finally:
                    os._exit(0)
            status = os.waitpid(child, 0)[1]
            log.seek(0)
            text = log.read().decode()
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == 6, 'the process lived on: ' + text
        return text

    return run


@pytest.fixture
def npu_session():
    """npu_session(**options): an open session with NpuOptimizer."""
    import tensorflow.compat.v1 as tf

    opened = []

    def make(**options):
        opened.append(tf.Session(config=session_config(**options)))
        return opened[-1]

    yield make
    for session in opened:
        session.close()


def session_config(**options):
    """A ConfigProto with NpuOptimizer as the documentation wants it; bool, int and str options go
    to the fields b, i and s.
    """
    import tensorflow.compat.v1 as tf
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

    config = tf.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.remapping = rewrite.memory_optimization = RewriterConfig.OFF
    entry = rewrite.custom_optimizers.add(name='NpuOptimizer')
    for name, value in options.items():
        field = 'b' if isinstance(value, bool) else 'i' if isinstance(value, int) else 's'
        setattr(entry.parameter_map[name], field, value.encode() if field == 's' else value)
    return config


@pytest.fixture
def make_config():
    return session_config
