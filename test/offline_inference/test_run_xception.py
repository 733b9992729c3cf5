"""Xception from a checkpoint through every backend: the same predictions, on a narrow network and
71x71 pixels.
"""

import json

import cv2
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
import yaml

from common.checkpoints import checkpoint
from common.data import tfrecord
from offline_inference import run
from xception_tf import model
from xception_tf.config import XceptionConfig

COUNT, CLASSES, SIZE, WIDTH = 7, 6, 71, 1 / 16


def weights_and_logits(jpegs, prefix):
    """Writes a checkpoint under which several classes win; returns the logits [COUNT,CLASSES]."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(10)
        pixels = session.run([tf.image.decode_jpeg(jpeg, channels=3) for jpeg in jpegs])
        images = np.stack(pixels) / np.float32(127.5) - 1
        cfg = XceptionConfig(num_classes=CLASSES, width=WIDTH, bn_decay=0.0)
        model.build(tf.constant(images), cfg, training=True)
        session.run(tf.global_variables_initializer())
        # Statistics of these images, as a trained network has.
        session.run(tf.get_collection(tf.GraphKeys.UPDATE_OPS))
        tf.train.Saver().save(session, prefix)
    with tf.Graph().as_default(), tf.Session() as session:
        output = model.build(tf.constant(images), cfg)
        tf.train.Saver().restore(session, prefix)
        logits = session.run(output)
        weights = session.run({v.op.name: v for v in tf.global_variables()})
    average = logits.mean(axis=0)
    scale = 2 / (logits - average).std()
    weights['dense/bias'] = (weights['dense/bias'] - average) * scale
    weights['dense/kernel'] *= scale
    checkpoint.write(prefix, weights)
    return (logits - average) * scale


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """(the words of a run but for --output and --backend, logits [COUNT,CLASSES], labels): records
    of JPEGs of the input's size, so that the test need not resize.
    """
    folder, random = tmp_path_factory.mktemp('xception'), np.random.RandomState(10)
    colours = random.randint(256, size=[COUNT, 1, 1, 3])
    jpegs = [
        cv2.imencode('.jpg', image.clip(0, 255).astype(np.uint8))[1].tobytes()
        for image in colours + random.normal(0, 60, [COUNT, SIZE, SIZE, 3])
    ]
    prefix = str(folder / 'xception_model.ckpt')
    logits = weights_and_logits(jpegs, prefix)
    labels, best = logits.argmax(axis=1), np.sort(logits, axis=1)
    margin = (best[:, -1] - best[:, -2]).min()
    assert len(set(labels)) > 2 and margin > 0.2  # more than float16 changes
    labels[:3] = (labels[:3] + 1) % CLASSES  # which are wrong, then
    (folder / 'data' / 'val').mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / 'data' / 'val' / 'val.tfrecord')) as writer:
        for jpeg, label in zip(jpegs, labels):
            writer.write(tfrecord.make_example({'image': jpeg, 'label': label}))
    recipe = dict(model='xception', num_classes=CLASSES, image_size=SIZE, width=WIDTH)
    recipe.update(batch_size=4, eval_preprocessing='plain')
    (folder / 'recipe.yaml').write_text(yaml.safe_dump(recipe))
    words = ['--model', 'xception', '--config', folder / 'recipe.yaml']
    words += ['--model_path', prefix, '--data_path', folder / 'data']
    return [str(word) for word in words], logits, labels


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('offline')


@pytest.mark.parametrize(
    'backend, dtype',
    [('onnx', 'float32'), ('pb', 'uint8'), ('msame', 'float32'), ('msame', 'uint8')],
)
def test_engines_agree(backend, dtype, made, folder, sim, capfd):
    words, logits, labels = made
    run.main(words + ['--output', str(folder), '--backend', backend, '--input_dtype', dtype])
    right = sklearn.metrics.accuracy_score(labels, logits.argmax(axis=1))
    assert right == 4 / 7
    assert (
        capfd.readouterr().out.splitlines()[-1] == '>>>>>  共 7 测试样本    accuracy:%.6f' % right
    )
    result = json.loads((folder / 'offline.json').read_text())['results'][
        backend + ('_uint8' if dtype == 'uint8' else '')
    ]
    assert result['images'] == COUNT and result['equal_predictions'] == 1.0
    probabilities = np.exp(logits.astype(np.float64))
    loss = sklearn.metrics.log_loss(
        labels, probabilities / probabilities.sum(axis=1, keepdims=True), labels=range(CLASSES)
    )
    assert result['online']['loss'] == pytest.approx(loss, rel=1e-3)
    largest = np.abs(logits).max()
    if backend != 'msame':
        assert result['max_abs_logit_difference'] < 1e-4 * largest
    else:
        assert (
            result['precision_mode'] == 'force_fp16'
            and 1e-6 * largest < result['max_abs_logit_difference'] < 3e-2 * largest
        )
        assert result['offline']['loss'] == pytest.approx(loss, rel=3e-2)
