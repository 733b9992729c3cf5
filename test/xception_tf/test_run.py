"""run_xception.py from flags to files: training, evaluation, fine-tuning, prediction, on a narrow
network and 71x71 pixels.
"""

import ast
import json
import pathlib
import re

import cv2
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_records
from run_files import evaluation

from common import run as command
from common.checkpoints import checkpoint, restore
from common.configuration import config
from common.errors import UserError
from xception_tf import model
from xception_tf.config import XceptionConfig
from xception_tf.task import TASK

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WIDTH, CLASSES, SIZE = 1 / 16, 6, 71


def jpegs(count, seed):
    """(JPEG, label) of images of many sizes; each class has a colour of its own, under noise."""
    random = np.random.RandomState(seed)
    for index in range(count):
        height, width = random.randint(60, 120, 2)
        colour = np.random.RandomState(index % CLASSES).randint(256, size=3)
        pixels = colour + random.normal(0, 30, [height, width, 3])
        image = cv2.imencode('.jpg', pixels.clip(0, 255).astype(np.uint8))[1].tobytes()
        yield image, index % CLASSES


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """train/ (13 records) and val/ (7) in the published port's schema, written by TensorFlow."""
    folder = tmp_path_factory.mktemp('data')
    for split, count in (('train', 13), ('val', 7)):
        rows = (dict(image=image, label=label) for image, label in jpegs(count, seed=len(split)))
        tensorflow_records.write(folder / split / (split + '.tfrecord'), rows)
    return folder


def call(*words):
    """The command on the small network with these words, which are split at spaces."""
    own = '--width %s --image_size %d --class_num %d --device cpu' % (WIDTH, SIZE, CLASSES)
    with tf.Graph().as_default():
        command.main(TASK, ' '.join(map(str, (own,) + words)).split())


@pytest.fixture(scope='module')
def no_top(tmp_path_factory):
    """Prefix of a checkpoint without classifier."""
    prefix = str(tmp_path_factory.mktemp('start') / 'notop.ckpt')
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(42)
        model.build(tf.zeros([1, SIZE, SIZE, 3]), XceptionConfig(width=WIDTH, num_classes=CLASSES))
        session.run(tf.global_variables_initializer())
        tf.train.Saver(
            [v for v in tf.global_variables() if not v.op.name.startswith('dense/')]
        ).save(session, prefix, write_meta_graph=False)
    return prefix


@pytest.fixture(scope='module')
def run_folder(no_top, data, tmp_path_factory):
    """A run under the published port's flags (its recipe is the default), from weights without top:
    3 epochs of one step of 4 images.
    """
    folder = tmp_path_factory.mktemp('run')
    call(
        '--do_train True --batch_size 4 --epoch 3 --image_num 7 --eval_interval 0',
        '--learning_rate 0.0001 --save_checkpoints_steps 2 --reinit_head True',
        '--dropout_rate 0.5 --bn_decay 0.1',
        *('--model_path', no_top, '--data_path', data, '--output_path', folder),
    )
    return folder


@pytest.fixture(scope='module')
def logits(run_folder):
    """The final checkpoint's logits of the 7 images of val/: decoded, resized as TensorFlow 1 does
    it, scaled to -1..1.
    """
    with tf.Graph().as_default(), tf.Session() as session:

        def pixels(image):
            resized = tf.image.resize_images(tf.image.decode_jpeg(image, channels=3), [SIZE, SIZE])
            return tf.round(resized) / 127.5 - 1

        output = model.build(
            tf.stack([pixels(image) for image, _ in jpegs(7, seed=3)]),
            XceptionConfig(width=WIDTH, num_classes=CLASSES),
        )
        tf.train.Saver().restore(session, str(run_folder / 'xception_model.ckpt'))
        found = session.run(output).astype(np.float64)
    assert found.std(axis=0).max() > 0.05  # it is the images that make them
    return found


def figures(logits, labels):
    """Mean cross entropy, top 1 and top 5, by their definitions."""
    log_softmax = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    order = np.argsort(-logits, axis=1)
    return (
        np.mean([-row[label] for row, label in zip(log_softmax, labels)]),
        np.mean([row[0] == label for row, label in zip(order, labels)]),
        np.mean([label in row[:5] for row, label in zip(order, labels)]),
    )


# Training and evaluation


def test_run_ends_in_the_ports_checkpoint_and_its_evaluation(run_folder, logits):
    assert (run_folder / 'model.ckpt-2.index').exists()  # --save_checkpoints_steps
    loss, top1, top5 = figures(logits, [label for _, label in jpegs(7, seed=3)])
    result = evaluation(run_folder)
    assert result['checkpoint'] == str(run_folder / 'xception_model.ckpt') and result['images'] == 7
    np.testing.assert_allclose(
        [result['loss'], result['top1'], result['top5']], [loss, top1, top5], rtol=1e-4
    )
    names = dict(tf.train.list_variables(str(run_folder / 'xception_model.ckpt')))
    assert names.pop('global_step') == []
    port = json.loads((ROOT / 'test' / 'data' / 'xception_port_variables.json').read_text())
    assert set(names) == {name for name, _, _ in port}


def test_evaluation_prints_both_published_lines(run_folder, data, logits, tmp_path, capsys):
    place = '--model_path', run_folder / 'xception_model.ckpt', '--output_path', tmp_path
    call('--image_num 5 --batch_size 3 --data_path', data / 'val', *place)
    loss, top1, top5 = figures(logits[:5], [label for _, label in jpegs(5, seed=3)])
    lines = capsys.readouterr().out.splitlines()
    printed = re.fullmatch(r'xception eval  loss=(\d+\.\d{5})   acc=(\d\.\d{4})', lines[0])
    np.testing.assert_allclose(
        [float(value) for value in printed.groups()], [loss, top1], atol=1e-4
    )
    result = ast.literal_eval(re.fullmatch(r'result: (\{.*\})', lines[1]).group(1))
    assert list(result) == ['Loss', 'Top_1_Acc', 'Top_5_Acc']
    np.testing.assert_allclose(list(result.values()), [loss, top1, top5], rtol=1e-4)
    assert evaluation(tmp_path)['images'] == 5


# Starting from a checkpoint


def configured(data, **fields):
    """Xception's Task and a small configuration with these changes."""
    changes = dict(width=WIDTH, image_size=SIZE, num_classes=CLASSES, data_path=data)
    words = [word for item in dict(changes, **fields).items() for word in item]
    words = ['--' + str(word) if i % 2 == 0 else str(word) for i, word in enumerate(words)]
    return TASK, config.parse(TASK.config, words)


def test_run_started_from_the_given_weights_and_a_new_classifier(run_folder, no_top):
    said = 'restored 234 of 236 variables; newly initialised: dense/kernel, dense/bias'
    assert said in (run_folder / 'log.txt').read_text()
    final = str(run_folder / 'xception_model.ckpt')
    before, after = checkpoint.Checkpoint(no_top), checkpoint.Checkpoint(final)
    for name in before.shapes:
        old, new = before.read(name), after.read(name)
        if name.endswith('kernel'):
            assert np.corrcoef(old.ravel(), new.ravel())[0, 1] > 0.99, name
        elif 'moving' in name:
            assert not np.array_equal(old, new), name


def test_weights_without_top_say_what_they_need(no_top, data):
    with pytest.raises(
        UserError,
        match=r'2 are missing \(dense/kernel, dense/bias\); it is an Xception without a'
        r' classifier, to train one on; use --width 0.0625 --do_train True --reinit_head True',
    ):
        restore.plan_restore(*configured(data), no_top)


def test_other_classes_say_how_to_start_with_a_new_classifier(run_folder, data):
    path = str(run_folder / 'xception_model.ckpt')
    with pytest.raises(UserError) as error:
        restore.plan_restore(*configured(data, num_classes=9), path)
    assert 'dense/kernel is [128, 6] instead of [128, 9]' in str(error.value)
    assert (
        'it is an Xception with 6 classes; use --width 0.0625 --num_classes 6; --reinit_head True'
        ' initialises the classifier anew' in str(error.value)
    )
    found = restore.plan_restore(
        *configured(data, num_classes=9, reinit_head=True), path, training=True
    )
    assert len(found.names) == 234 and 'newly initialised: dense/kernel, dense/bias' in found.report


# Prediction


def test_prediction_is_what_evaluation_computes(run_folder, data, logits, tmp_path, capsys):
    for index, (image, _) in enumerate(jpegs(7, seed=3)):
        (tmp_path / ('%d.jpg' % index)).write_bytes(image)
    place = '--data_path', data, '--output_path', tmp_path / 'out'
    model_path = run_folder / 'xception_model.ckpt'
    call('--batch_size 4 --model_path', model_path, '--predict', tmp_path, *place)
    result = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert result['model'] == 'xception' and result['skipped'] == {}
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for index, prediction in enumerate(result['predictions']):
        assert prediction['file'] == str(tmp_path / ('%d.jpg' % index))
        highest = np.argsort(-logits[index])[:5].tolist()
        assert [top['class'] for top in prediction['top']] == highest
        for top in prediction['top']:
            assert top['name'] == str(top['class'])
            assert top['probability'] == pytest.approx(probabilities[index, top['class']], rel=1e-4)
    assert len(result['predictions']) == 7
