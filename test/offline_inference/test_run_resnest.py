"""ResNeSt from a checkpoint to offline.json, a class for each pixel: figures against NumPy's, on narrow networks and 64x96 pixels."""
import json
import types

import numpy as np
import pytest
import tensorflow as tf
import yaml

from common import checkpoint
from offline_inference import aipp, ascend, bins, freeze, fold, msame, pb, run
from resnest_tf.model import deeplab_resnest

COUNT, HEIGHT, WIDTH = 5, 64, 96
NETWORKS = {'paper': dict(depth=14, width=1 / 16), 'port': dict(depth=50, width=1 / 64, variant='port')}
CONSTANTS = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]     # mean and deviation, RGB


def scenes():
    """uint8 RGB [COUNT,H,W,3]: rectangles, whose colours tell red from blue, under noise."""
    random = np.random.RandomState(0)
    images = np.empty([COUNT, HEIGHT, WIDTH, 3])
    for image in images:
        image[:] = 80
        for _ in range(12):
            top, left = random.randint(0, HEIGHT - 24), random.randint(0, WIDTH - 24)
            image[top:top + 24, left:left + 24] = random.choice([20, 240], 3)
    return (images + random.normal(0, 15, images.shape)).clip(0, 255).astype(np.uint8)


def weights_and_logits(variant, images, prefix):
    """Writes a checkpoint of random weights and statistics whose classes share the pixels; returns the logits [COUNT,H,W,19]."""
    random, weights = np.random.RandomState(1), {}
    mean, deviation = CONSTANTS
    inputs = (images - mean) / deviation
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, HEIGHT, WIDTH, 3])
        logits, _ = deeplab_resnest(x, aux_head=False, **NETWORKS[variant])
        for variable in tf.global_variables():
            shape, name = variable.shape.as_list(), variable.op.name
            weights[name] = (random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape) if len(shape) == 4 else random.uniform(0.5, 1.5, shape)
                             if name.endswith(('gamma', 'moving_variance')) else random.normal(0, 0.3, shape)).astype(np.float32)
            variable.load(weights[name], session)
        feeds = {x: inputs[..., ::-1] if variant == 'port' else inputs}
        found = session.run(logits, feeds)
        bias, = (v for v in tf.global_variables() if v.op.name.startswith(('head/logits/', 'Conv_71/')) and v.shape.ndims == 1)
        # The mean of what a class gets is taken off, and most of every third class: they win somewhere.
        weights[bias.op.name] -= found.mean(axis=(0, 1, 2))
        bias.load(weights[bias.op.name], session)
        found = session.run(logits, feeds)
    checkpoint.write(prefix, weights)
    return found


def made(variant, folder):
    images = scenes()
    logits = weights_and_logits(variant, images, str(folder / 'resnest.ckpt'))
    labels = logits.argmax(axis=-1).astype(np.uint8)
    assert len(np.unique(labels)) > 4
    labels[:, :, WIDTH // 2:] = np.random.RandomState(2).randint(6, size=[COUNT, HEIGHT, WIDTH // 2])     # half of them are right
    labels[:, -4:] = 255
    (folder / 'data' / 'val').mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / 'data' / 'val' / 'val.tfrecord')) as writer:
        for image, label in zip(images, labels):
            feature = {key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.tobytes()]))
                       for key, value in (('image', image[..., ::-1]), ('label', label))}
            for key, value in (('height', HEIGHT), ('width', WIDTH), ('channels', 3)):
                feature[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    # A batch for training, which evaluation does not take; views that it averages and an offline model has not; a run's own do_train.
    recipe = dict(NETWORKS[variant], model='resnest', image_height=HEIGHT, image_width=WIDTH, batch_size=4, do_train=True, eval_flip=True,
                  eval_scales=[0.75, 1.0])
    (folder / 'recipe.yaml').write_text(yaml.safe_dump(recipe))

    def words(output, **flags):
        flags = dict(dict(model='resnest', config=folder / 'recipe.yaml', model_path=folder / 'resnest.ckpt', data_path=folder / 'data'), **flags)
        return [str(word) for key, value in dict(flags, output=output).items() for word in ('--' + key, value)]
    return types.SimpleNamespace(words=words, logits=logits, labels=labels, images=images)


@pytest.fixture(scope='module')
def paper(tmp_path_factory):
    return made('paper', tmp_path_factory.mktemp('paper'))


@pytest.fixture(scope='module')
def port(tmp_path_factory):
    return made('port', tmp_path_factory.mktemp('port'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where all backends run: what one of them made is there for the next."""
    return tmp_path_factory.mktemp('offline')


def figures(logits, labels):
    """Loss, mIoU and accuracy by their definitions."""
    real = labels != 255
    logits, labels = logits.astype(np.float64)[real], labels[real]
    found = logits.argmax(axis=-1)
    unions = [np.logical_or(found == number, labels == number).sum() for number in range(19)]
    iou = [np.logical_and(found == number, labels == number).sum() / union for number, union in enumerate(unions) if union]
    highest = logits.max(axis=-1, keepdims=True)
    log_sum = (np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True)) + highest)[:, 0]
    return {'loss': np.mean(log_sum - logits[np.arange(len(labels)), labels]), 'miou': np.mean(iou), 'accuracy': np.mean(found == labels)}


def read(output):
    return json.loads((output / 'offline.json').read_text())['results']


@pytest.mark.parametrize('dtype', ['float32', 'uint8'])
@pytest.mark.parametrize('backend', ['pb', 'onnx', 'msame', 'ais_bench'])
def test_engines_agree(backend, dtype, paper, folder, sim, capfd):
    run.main(paper.words(folder, backend=backend, input_dtype=dtype))
    out = capfd.readouterr().out
    result = read(folder)[backend + ('_uint8' if dtype == 'uint8' else '')]
    expected = figures(paper.logits, paper.labels)
    assert 0.1 < expected['miou'] < 0.9
    assert result['images'] == COUNT and result['batch_size'] == 1 and result['predictions'] == COUNT * HEIGHT * WIDTH
    half = backend not in ('pb', 'onnx')
    for key, value in expected.items():
        assert result['online'][key] == pytest.approx(value, rel=1e-4), key
        assert result['offline'][key] == pytest.approx(value, rel=1e-2 if half else 1e-4), key
    assert len(result['offline']['iou']) == 19 and result['offline']['miou'] == pytest.approx(
        np.mean([value for value in result['offline']['iou'].values() if value is not None]))
    assert out.splitlines()[-1] == '>>>>>  共 5 测试样本    mIoU:%.6f' % result['offline']['miou']
    assert 'same prediction for %.3f %% of the pixels' % (100 * result['equal_predictions']) in out
    largest = np.abs(paper.logits).max()
    if half:
        assert result['precision_mode'] == 'allow_fp32_to_fp16' and result['least_equal'] == 0.99
        assert 0.995 < result['equal_predictions'] < 1 and 1e-5 * largest < result['max_abs_logit_difference'] < 1e-2 * largest
    else:
        assert result['least_equal'] == 0.999 and result['equal_predictions'] > 0.9999 and result['max_abs_logit_difference'] < 1e-4 * largest
