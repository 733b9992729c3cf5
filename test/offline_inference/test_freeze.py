"""Frozen graphs: nothing but inference inside, the logits of the published code, and a proof that
notices what is wrong.
"""

import errno
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import yaml

from common.checkpoints import checkpoint
from common.errors import UserError
from offline_inference import cli, freeze, manifest, pb

VARIANTS = ('paper', 'port', 'mindspore')
INFERENCE = set(
    'Placeholder Const Conv2D BiasAdd FusedBatchNormV3 Relu Pad Add AddV2 AvgPool Reshape'
    ' MatMul'.split()
)


def parsed(path):
    graph_def = tf.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    return graph_def


def flags(known, recipe, output, **changes):
    words = ['--model', 'wideresnet', '--config', recipe(**known.config)]
    words += ['--model_path', known.prefix, '--output', output]
    return words + [word for key, value in changes.items() for word in ('--' + key, value)]


@pytest.mark.parametrize('variant', VARIANTS)
def test_computes_the_published_logits(variant, known, frozen, reference, infer_all):
    infer = pb.engine(frozen(variant), reference(**known(variant).config))
    np.testing.assert_allclose(
        infer_all(infer, known(variant).images), known(variant).logits, rtol=1e-4, atol=1e-4
    )


# WRN-10 has 7 batch norms, WRN-16 13; 'mindspore' one more, after its stem.
@pytest.mark.parametrize('variant, norms', [('paper', 13), ('port', 7), ('mindspore', 8)])
def test_holds_what_inference_needs_and_nothing_else(variant, norms, frozen):
    graph_def = parsed(frozen(variant))
    assert {node.op for node in graph_def.node} <= INFERENCE
    (x,) = [node for node in graph_def.node if node.op == 'Placeholder']
    assert x.name == 'inputx' and x.attr['dtype'].type == tf.float32.as_datatype_enum
    assert [size.size for size in x.attr['shape'].shape.dim] == [4, 32, 32, 3]
    read = {name.split(':')[0] for node in graph_def.node for name in node.input}
    assert [node.name for node in graph_def.node if node.name not in read] == ['output/BiasAdd']
    assert not any(name.startswith('^') for node in graph_def.node for name in node.input)
    nodes = [node for node in graph_def.node if node.op == 'FusedBatchNormV3']
    assert len(nodes) == norms and not any(node.attr['is_training'].b for node in nodes)
    assert not graph_def.library.function


def test_command_with_flags_over_the_recipe(known, recipe, data, tmp_path, capsys):
    output = tmp_path / 'new' / 'w.pb'
    words = flags(known('paper'), recipe, output, batch_size=5, data_path=data)
    freeze.main([str(word) for word in words])
    lines = capsys.readouterr().out.splitlines()
    nodes = len(parsed(output).node)
    assert 'restored 69 of 69 variables' in lines[0]
    assert lines[1].startswith(
        '%s: %d nodes, %.2f MB; largest difference' % (output, nodes, output.stat().st_size / 1e6)
    )
    assert lines[1].endswith(' on 20 images of %s' % (data / 'test'))
    assert parsed(output).node[0].attr['shape'].shape.dim[0].size == 5
    assert sorted(path.name for path in output.parent.iterdir()) == ['manifest.json', 'w.pb']


def test_averaged_weights_are_taken(known, reference, tmp_path, infer_all):
    """As training with --ema_decay leaves them: statistics of batch norm have no average."""
    k = known('port')
    tensors = {
        name + ('' if 'moving' in name else '/ExponentialMovingAverage'): value
        for name, value in k.weights.items()
    }
    tensors.update(
        {name: np.zeros_like(value) for name, value in k.weights.items() if 'moving' not in name}
    )
    checkpoint.write(str(tmp_path / 'ema.ckpt'), tensors)
    of = reference(model_path=str(tmp_path / 'ema.ckpt'), **k.config)
    assert 'averaged' in freeze.freeze(of, tmp_path / 'ema.pb')
    np.testing.assert_allclose(
        infer_all(pb.engine(tmp_path / 'ema.pb', of), k.images), k.logits, rtol=1e-4, atol=1e-4
    )


# The proof


def corrupted(graph_def, ending, change):
    """A copy in which the constant whose name ends so is changed."""
    copy = tf.GraphDef()
    copy.CopyFrom(graph_def)
    (node,) = (node for node in copy.node if node.op == 'Const' and node.name.endswith(ending))
    value = tf.make_ndarray(node.attr['value'].tensor).copy()
    change(value)
    node.attr['value'].tensor.CopyFrom(tf.make_tensor_proto(value))
    return copy


def one_weight(value):
    value[0, 0, 0, 0] += 0.5


def one_nan(value):
    value.flat[0] = np.nan


@pytest.mark.parametrize(
    'ending, change, real',
    [
        ('conv2d/kernel', one_weight, True),
        ('conv2d_6/kernel', one_weight, False),
        ('output/bias', one_nan, True),
    ],
)
def test_proof_notices_a_single_wrong_value(
    ending, change, real, known, frozen, reference, tmp_path
):
    of = reference(model_path=known('port').prefix, **known('port').config)
    wrong = corrupted(parsed(frozen('port')), ending, change)
    (tmp_path / 'wrong.pb').write_bytes(wrong.SerializeToString())
    found = 'on 16 images .* differ .* by (nan|[0-9.e-]+) .*allowed is 0.0001'
    with pytest.raises(UserError, match='the frozen graph is not the model: ' + found):
        freeze.prove(of, tmp_path / 'wrong.pb', real=real)


def test_proof_takes_the_right_graph(known, frozen, reference):
    of = reference(model_path=known('port').prefix, **known('port').config)
    proof = freeze.prove(of, frozen('port'), real=True)
    assert 0 <= proof.difference < 1e-5 and proof.images == 16 and proof.exact_difference is None


def test_what_fails_the_proof_is_not_written(known, recipe, tmp_path, monkeypatch, fails):
    right = freeze.constant_graph
    wrong = lambda *args: corrupted(right(*args), 'conv2d_1/kernel', one_weight)  # noqa: E731
    monkeypatch.setattr(freeze, 'constant_graph', wrong)
    output = tmp_path / 'w.pb'
    output.write_bytes(b'an older one')
    assert 'not the model' in fails(freeze.main, flags(known('port'), recipe, output))
    assert output.read_bytes() == b'an older one' and list(tmp_path.iterdir()) == [output]


def test_network_with_an_assertion_is_refused(known, reference, tmp_path, monkeypatch):
    of = reference(model_path=known('port').prefix, **known('port').config)
    network = of.network

    def asserting(images):
        logits = network(images)
        check = tf.Assert(tf.reduce_all(tf.is_finite(logits)), [logits])
        with tf.control_dependencies([check]):
            return tf.identity(logits, name='checked')

    monkeypatch.setattr(of, 'network', asserting)
    monkeypatch.setattr(of, 'output_name', 'checked')
    message = 'the inference graph of wideresnet is not static: .*Assert'
    with pytest.raises(ValueError, match=message):
        freeze.freeze(of, tmp_path / 'w.pb')
    assert not list(tmp_path.iterdir())


# Bad input


def test_mistakes_are_explained(known, recipe, tmp_path, fails):
    output = tmp_path / 'w.pb'

    def error(**changes):
        return fails(freeze.main, flags(known('paper'), recipe, output, **changes))

    assert '--model wideresnett is unknown; legal: ' in error(model='wideresnett')
    assert 'no such checkpoint' in error(model_path=tmp_path / 'nothing.ckpt')
    other_depth = error(depth=22)
    assert 'does not fit the network' in other_depth
    assert 'it is a WRN-16-1 with 10 classes' in other_depth
    assert 'no such folder' in error(data_path=tmp_path / 'nowhere')
    assert 'unknown flag --dept ' in error(dept=22)
    assert 'batch_size' in error(batch_size=0)
    assert '--model_path is missing' in fails(
        freeze.main, ['--model', 'wideresnet', '--config', recipe(), '--output', output]
    )
    assert '--output' in fails(freeze.main, ['--model', 'wideresnet'])
    assert not list(tmp_path.iterdir())


def test_flags_stand_above_what_a_run_was_trained_with(recipe, tmp_path, capsys):
    """The config.yaml of a run says do_train; ResNeSt's batch for training is none for whole
    photographs.
    """

    def parse(*words):
        return cli.Parser('', '').parse_model([str(word) for word in words])

    of_run = recipe(do_train=True, device='auto')
    args, cfg = parse('--model', 'wideresnet', '--config', of_run, '--image_num', 5)
    assert (cfg.do_train, cfg.device, cfg.image_num, cfg.batch_size) == (False, 'cpu', 5, 16)
    assert not args.has_data
    path = tmp_path / 'resnest.yaml'
    path.write_text(yaml.safe_dump({'model': 'resnest', 'batch_size': 8, 'do_train': True}))
    # The published port's --data_path.
    args, cfg = parse('--model', 'resnest', '--config', path, '--train_data=x')
    assert (cfg.batch_size, cfg.data_path, args.has_data) == (1, 'x', True)
    assert parse('--model', 'resnest', '--config', path, '--batch_size=3')[1].batch_size == 3
    words = ['--model', 'wideresnet', '--config', recipe(), '--deterministic', 1, '--device']
    _, cfg = parse(*words, 'gpu')
    assert cfg.device == 'gpu'
    assert cli.load(cfg).name == 'wideresnet'
    assert 'warning: deterministic: no effect with device gpu' in capsys.readouterr().err


def test_proof_takes_fewer_images_if_they_are_large(known, frozen, reference, monkeypatch):
    of = reference(model_path=known('port').prefix, **known('port').config)
    for pixels, images in ((9 * 32 * 32, 12), (1, 4)):  # whole batches of 4
        monkeypatch.setattr(freeze, 'PROOF_PIXELS', pixels)
        assert freeze.prove(of, frozen('port'), real=True).images == images


def test_output_that_is_a_folder_is_left_alone(known, recipe, tmp_path, fails):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'precious').write_text('x')
    assert 'is a folder' in fails(freeze.main, flags(known('paper'), recipe, tmp_path / 'run'))
    assert (tmp_path / 'run' / 'precious').read_text() == 'x'
    assert 'precious: File exists' in fails(
        freeze.main, flags(known('paper'), recipe, tmp_path / 'run' / 'precious' / 'w.pb')
    )


def test_full_disk_is_one_line_that_names_the_file(known, recipe, tmp_path, monkeypatch, fails):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pathlib.Path, 'write_bytes', full)
    text = fails(freeze.main, flags(known('paper'), recipe, tmp_path / 'w.pb'))
    assert 'w.pb: No space left on device' in text and not list(tmp_path.iterdir())


@pytest.mark.parametrize('damage', ['[1, 2', '[]', '{"w.pb": 7}', '{"w.pb": {"sha256": 1}}'])
def test_damaged_manifest(damage, tmp_path):
    """It names the file, or says nothing of it."""
    (tmp_path / 'w.pb').write_bytes(b'')
    (tmp_path / manifest.NAME).write_text(damage)
    if damage.startswith('['):
        with pytest.raises(UserError, match='manifest.json .*delete it'):
            manifest.sources(tmp_path / 'w.pb')
    else:
        assert manifest.sources(tmp_path / 'w.pb') is None
        assert not manifest.is_current(tmp_path / 'w.pb', model='wideresnet')


def test_recipe_of_another_model(known, tmp_path, fails):
    path = tmp_path / 'r.yaml'
    path.write_text(yaml.safe_dump({'model': 'xception'}))
    assert 'another model' in fails(
        freeze.main, ['--model', 'wideresnet', '--config', path, '--output', tmp_path / 'w.pb']
    )
