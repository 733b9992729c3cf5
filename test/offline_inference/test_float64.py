"""The gate of freezing where float32 cannot decide: a network that amplifies rounding."""

import numpy as np
import pytest
import tensorflow as tf

from common.checkpoints import checkpoint
from common.errors import UserError
from offline_inference import float64, freeze, pb


@pytest.mark.parametrize('variant', ['paper', 'port', 'mindspore'])
def test_both_ways_give_the_published_logits(variant, known, frozen, reference):
    k = known(variant)
    of = reference(model_path=k.prefix, **k.config)
    own = float64.checkpoint_network(of)(k.images[:4])
    exported = float64.frozen_graph(of, pb.read(frozen(variant)))(k.images[:4])
    assert own.dtype == exported.dtype == np.float64
    np.testing.assert_allclose(exported, own, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(own, k.logits[:4], rtol=1e-4, atol=1e-4)


def test_batch_norm_and_resize_in_float64():
    random = np.random.RandomState(0)
    x = random.normal(size=(1, 4, 4, 3)) * 1e6
    gamma, beta, mean = random.normal(size=(3, 3)).astype(np.float32)
    variance = random.uniform(0.5, 1, 3).astype(np.float32)
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, x.shape, 'inputx')
        y, _, _ = tf.nn.fused_batch_norm(
            images, gamma, beta, mean, variance, epsilon=1e-3, is_training=False
        )
        tf.image.resize_bilinear(y, [8, 8], name='y')
    converted = float64.convert(graph.as_graph_def(), 'y', {})
    norm = next(node.name for node in graph.as_graph_def().node if 'FusedBatch' in node.op)
    with tf.Graph().as_default(), tf.Session() as session:
        names = [norm + ':0', 'y:0']
        x64 = tf.constant(x)
        normalised, resized = session.run(tf.import_graph_def(converted, {'inputx': x64}, names))
    expected = (x - mean) * gamma / np.sqrt(variance.astype(np.float64) + np.float32(1e-3)) + beta
    np.testing.assert_allclose(normalised, expected, rtol=1e-14)
    assert resized.dtype == np.float64
    np.testing.assert_allclose(resized[:, ::2, ::2], expected, rtol=1e-6)


@pytest.fixture
def amplifying(known, reference, tmp_path):
    """A WRN whose classifier takes differences of nearly equal features, enlarged 1e6 times."""
    k = known('port')
    tensors = dict(k.weights)
    kernel = np.zeros_like(tensors['output/kernel'])
    kernel[0::2, 0], kernel[1::2, 0] = 1e6, -1e6
    tensors['output/kernel'] = kernel
    checkpoint.write(str(tmp_path / 'a.ckpt'), tensors)
    return reference(model_path=str(tmp_path / 'a.ckpt'), **k.config)


def rounded(infer):
    """What another order of summation does to such logits."""
    return lambda images: infer(images) * np.float32(1.001)


def test_float64_decides_where_float32_cannot(amplifying, tmp_path, monkeypatch):
    engine = pb.engine
    monkeypatch.setattr(pb, 'engine', lambda *args: rounded(engine(*args)))
    text = freeze.freeze(amplifying, tmp_path / 'w.pb')
    assert '1.0e-03 in float32, whose rounding this network amplifies' in text
    assert 'in float64' in text and (tmp_path / 'w.pb').exists()


def test_float64_does_not_excuse_a_wrong_weight(amplifying, tmp_path, monkeypatch):
    right = freeze.constant_graph

    def wrong(*args):
        graph_def = right(*args)
        (node,) = (node for node in graph_def.node if node.name == 'output/bias')
        value = tf.make_ndarray(node.attr['value'].tensor).copy()
        value[0] += 1e6
        node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(value))
        return graph_def

    monkeypatch.setattr(freeze, 'constant_graph', wrong)
    with pytest.raises(UserError, match='the frozen graph is not the model.* in float64, allowed'):
        freeze.freeze(amplifying, tmp_path / 'w.pb')
    assert not (tmp_path / 'w.pb').exists()
