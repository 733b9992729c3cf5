"""The stand-ins for atc and msame inside this process, which saves the start of TensorFlow for
every call, and a tiny frozen graph.
"""

import collections
import os
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

SIM = pathlib.Path(__file__).resolve().parent.parent / 'ascend_sim'
sys.path.append(str(SIM))

Result = collections.namedtuple('Result', 'status out err lines')


@pytest.fixture(scope='session')
def sim():
    """The folder of the stand-ins."""
    return SIM


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
        logits = tf.nn.bias_add(
            tf.matmul(tf.reduce_mean(x, [1, 2]), weights),
            random.normal(0, 0.3, 5).astype(np.float32),
            name='out/BiasAdd',
        )
        tf.argmax(logits, 1, name='label')
        session.run(tf.global_variables_initializer())
        (folder / 'trained.pb').write_bytes(graph.as_graph_def().SerializeToString())
        frozen = tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ['out/BiasAdd', 'label']
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


@pytest.fixture
def atc(tmp_path, net, capfd, monkeypatch):
    """atc(flag=value, ...): the stand-in on net.pb with a legal command line that these flags
    change; None leaves a flag out.
    """
    from offline import atc as tool

    monkeypatch.chdir(tmp_path)

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
        capfd.readouterr()
        status = tool.main(
            list(words) or ['--%s=%s' % item for item in values.items() if item[1] is not None]
        )
        out, err = capfd.readouterr()
        return Result(status, out, err, out.splitlines())

    return call


@pytest.fixture
def msame(tmp_path, capfd, monkeypatch):
    """msame(word, ...): the stand-in in the test's folder."""
    from offline import msame as tool

    monkeypatch.chdir(tmp_path)

    def call(*words):
        capfd.readouterr()
        status = tool.main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Result(status, out, err, out.splitlines())

    return call


@pytest.fixture
def infer(msame, tmp_path):
    """infer(*arrays, model='net.om'): the raw bytes of the first result of msame on these arrays."""

    def call(*arrays, model='net.om'):
        paths = []
        for index, array in enumerate(arrays):
            paths.append(str(tmp_path / ('in%d.bin' % index)))
            array.tofile(paths[-1])
        result = msame('--model', model, '--input', ','.join(paths), '--output', 'results')
        assert result.status == 0 and 'Execute sample success' in result.out, result.out
        folder = next(line for line in result.lines if line.startswith('results/'))
        return (tmp_path / folder / (os.path.basename(model)[:-3] + '_output_0.bin')).read_bytes()

    return call
