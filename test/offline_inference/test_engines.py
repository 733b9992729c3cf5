"""The frozen graph in TensorFlow and its ONNX form in ONNX Runtime: same logits, same names, and
files that do not fit.
"""

import sys

import numpy as np
import onnx
import pytest
import tensorflow as tf

from common.errors import UserError
from offline_inference import pb, to_onnx


@pytest.fixture(scope='module')
def converted(frozen, tmp_path_factory):
    folder, made = tmp_path_factory.mktemp('onnx'), {}

    def get(variant):
        if variant not in made:
            made[variant] = folder / (variant + '.onnx')
            to_onnx.convert(frozen(variant), made[variant], 'output/BiasAdd')
        return made[variant]

    return get


@pytest.mark.parametrize('variant', ['paper', 'port', 'mindspore'])
def test_onnx_computes_the_published_logits(variant, known, converted, reference, infer_all):
    infer = to_onnx.engine(converted(variant), reference(**known(variant).config))
    logits = infer_all(infer, known(variant).images)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, known(variant).logits, rtol=1e-4, atol=1e-4)


def test_onnx_keeps_names_and_layout(converted):
    model = onnx.load(str(converted('paper')))
    onnx.checker.check_model(model)
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in list(model.graph.input) + list(model.graph.output)
    }
    assert shapes == {'inputx:0': [4, 32, 32, 3], 'output/BiasAdd:0': [4, 10]}


def test_conversion_is_silent_and_leaves_one_file(tmp_path, capfd):
    with tf.Graph().as_default() as graph:
        tf.nn.relu(tf.placeholder(tf.float32, [1, 2, 2, 3], 'inputx'), name='y')
        (tmp_path / 'y.pb').write_bytes(graph.as_graph_def().SerializeToString())
    to_onnx.convert(tmp_path / 'y.pb', tmp_path / 'new' / 'y.onnx', 'y')
    assert capfd.readouterr() == ('', '') and [
        path.name for path in (tmp_path / 'new').iterdir()
    ] == ['y.onnx']


@pytest.mark.parametrize('size', [3, 8])
def test_model_for_another_shape(size, known, frozen, converted, reference):
    other = reference(**dict(known('paper').config, batch_size=size))
    for load, path in ((pb.engine, frozen('paper')), (to_onnx.engine, converted('paper'))):
        with pytest.raises(
            UserError,
            match=r'its input inputx is \[4, 32, 32, 3\], the configuration says \[%d, 32, 32, 3\]'
            % size,
        ):
            load(path, other)


def test_graph_of_any_batch_size_is_taken(known, reference, tmp_path):
    """Users' own frozen graphs often leave it open."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 32, 32, 3], 'inputx')
        tf.nn.bias_add(tf.reduce_mean(x, [1, 2]), [1.0, 2.0, 3.0], name='output/BiasAdd')
        (tmp_path / 'own.pb').write_bytes(graph.as_graph_def().SerializeToString())
    infer = pb.engine(tmp_path / 'own.pb', reference(**known('paper').config))
    np.testing.assert_allclose(infer(np.ones((4, 32, 32, 3), np.float32)), [[2, 3, 4]] * 4)


def test_files_that_are_not_a_model(known, frozen, reference, tmp_path):
    of = reference(**known('paper').config)
    bad = tmp_path / 'bad'
    for load in (pb.engine, to_onnx.engine):
        bad.write_bytes(b'\x07nonsense' * 9)
        with pytest.raises(UserError, match='bad is not '):
            load(bad, of)
    with pytest.raises(UserError, match='No such file'):
        pb.engine(tmp_path / 'missing.pb', of)
    with pytest.raises(UserError, match='missing.onnx'):
        to_onnx.engine(tmp_path / 'missing.onnx', of)
    with tf.Graph().as_default() as graph:
        tf.placeholder(tf.float32, [4, 32, 32, 3], 'images')
        bad.write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(UserError, match='is not a frozen graph of wideresnet.*inputx'):
        pb.engine(bad, of)


def test_onnx_model_of_another_network(known, converted, reference, tmp_path):
    model = onnx.load(str(converted('paper')))
    for node in model.graph.node:
        node.output[:] = ['other' if name == 'output/BiasAdd:0' else name for name in node.output]
    model.graph.output[0].name = 'other'
    onnx.save(model, str(tmp_path / 'other.onnx'))
    with pytest.raises(
        UserError, match='it computes other from inputx:0, not output/BiasAdd:0 from inputx:0'
    ):
        to_onnx.engine(tmp_path / 'other.onnx', reference(**known('paper').config))


@pytest.mark.parametrize('package', ['onnxruntime', 'tf2onnx'])
def test_missing_package(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # so that its import fails
    with pytest.raises(UserError, match='--backend onnx: .*%s.*setup.sh' % package):
        to_onnx.software()
