"""The stand-ins for atc and msame inside this process, which saves the start of TensorFlow, and a
tiny frozen graph.
"""

import collections
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from common import host

SIM = pathlib.Path(__file__).resolve().parent.parent / 'ascend_sim'
sys.path.append(str(SIM))

Result = collections.namedtuple('Result', 'status out err lines')


@pytest.fixture(scope='session')
def net(tmp_path_factory):
    """A folder with net.pb (input inputx [N, H, W, 3], output out/BiasAdd [N, 5]) and trained.pb,
    the same before it was frozen.
    """
    folder = tmp_path_factory.mktemp('net')
    random = np.random.RandomState(0)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        images = tf.placeholder(tf.float32, [None, None, None, 3], 'inputx')
        kernel = tf.Variable(random.normal(0, 0.3, (3, 3, 3, 4)).astype(np.float32), name='kernel')
        x = tf.nn.conv2d(images, kernel, 1, 'SAME')
        vectors = [
            tf.Variable(random.uniform(0.5, 2, 4).astype(np.float32), name=name)
            for name in ('gamma', 'beta', 'mean', 'variance')
        ]
        x = tf.nn.relu(tf.nn.fused_batch_norm(x, *vectors, is_training=False)[0])
        weights = tf.Variable(random.normal(0, 0.3, (4, 5)).astype(np.float32), name='weights')
        tf.nn.bias_add(
            tf.matmul(tf.reduce_mean(x, [1, 2]), weights),
            random.normal(0, 0.3, 5).astype(np.float32),
            name='out/BiasAdd',
        )
        session.run(tf.global_variables_initializer())
        (folder / 'trained.pb').write_bytes(graph.as_graph_def().SerializeToString())
        frozen = tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ['out/BiasAdd']
        )
        (folder / 'net.pb').write_bytes(frozen.SerializeToString())
    return folder


@pytest.fixture(scope='session')
def reference(net):
    """reference(images): what TensorFlow computes from net.pb."""
    graph_def = tf.GraphDef.FromString((net / 'net.pb').read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name='')
    with tf.Session(graph=graph) as session:
        yield lambda images: session.run('out/BiasAdd:0', {'inputx:0': images})


@pytest.fixture(scope='session')
def assert_same():
    """assert_same(values, expected): they are equal; with Intel's build but for rounding, which
    differs with the place in memory.
    """
    rounding = dict(rtol=1e-5, atol=1e-6) if host.is_mkl() else dict(rtol=0, atol=0)
    return lambda values, expected: np.testing.assert_allclose(values, expected, **rounding)


@pytest.fixture
def inside(tmp_path, capfd, monkeypatch):
    """inside(main, words): a tool in the test's folder."""
    monkeypatch.chdir(tmp_path)

    def call(main, words):
        capfd.readouterr()
        status = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Result(status, out, err, out.splitlines())

    return call


@pytest.fixture
def atc(inside, net):
    """atc(flag=value, ...): the stand-in on net.pb with a legal command line that these flags
    change; None leaves a flag out.
    """
    from offline import atc as tool

    def call(*words, **changes):
        values = dict(
            model=net / 'net.pb',
            framework=3,
            input_shape='inputx:2,8,8,3',
            out_nodes='out/BiasAdd:0',
            output='net',
            soc_version='Ascend910A',
        )
        values.update(changes)
        flags = ['--%s=%s' % item for item in values.items() if item[1] is not None]
        return inside(tool.main, words or flags)

    return call


@pytest.fixture
def msame(inside):
    """msame(folder, flag, value, ...): the stand-in with net.om, results in out."""
    from offline import msame as tool

    def call(folder, *words, model='net.om'):
        return inside(
            tool.main, ['--model', model, '--input', folder, '--output', 'out'] + list(words)
        )

    return call


@pytest.fixture
def infer(msame, tmp_path):
    """infer(*arrays, model='net.om'): the first result of msame on these arrays, float32."""

    def call(*arrays, model='net.om'):
        for index, array in enumerate(arrays):
            (tmp_path / ('in%d' % index)).mkdir(exist_ok=True)
            array.tofile(str(tmp_path / ('in%d' % index) / 'a.bin'))
        folders = ','.join('in%d' % index for index in range(len(arrays)))
        result = msame(folders, model=model)
        assert result.status == 0 and 'Execute sample success' in result.out, result.out
        folder = next(line for line in result.lines if line.startswith('out/'))
        return np.fromfile(str(tmp_path / folder / 'a_output_0.bin'), np.float32)

    return call


@pytest.fixture
def command(tmp_path, start):
    """command(word, ...): a tool as a process of its own, as users start it; its Python is a fork,
    for which `start` has a server.
    """

    def call(*words):
        return subprocess.run(
            [str(SIM / 'env.sh')] + [str(word) for word in words],
            cwd=str(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            env=dict(os.environ, ASCEND_SIM_PYTHON=sys.executable, CUDA_VISIBLE_DEVICES=''),
        )

    return call


@pytest.fixture
def batch(tmp_path):
    """batch(path, seed, count=2): writes images and returns them."""

    def write(path, seed=0, count=2):
        images = np.random.RandomState(seed).normal(0, 1, (count, 8, 8, 3)).astype(np.float32)
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        images.tofile(str(tmp_path / path))
        return images

    return write
