"""run_resnest.py from flags to files, on narrow networks and drawn blobs of 64x96 pixels in the
published port's schema.
"""

import contextlib
import importlib.util
import json
import pathlib
import sys
from unittest import mock

import cv2
import numpy as np
import pytest
import tensorflow as tf
import yaml
from resnest_networks import deeplab

from common import export_weights
from common import run as command
from common.checkpoints import checkpoint, restore
from common.configuration import config
from common.errors import UserError
from resnest_tf import cityscapes, model_port
from resnest_tf.task import TASK

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RECIPES = sorted((ROOT / 'resnest_tf' / 'configs').glob('*.yaml'))
RUN = ROOT / 'resnest_tf' / 'run_resnest.py'
HEIGHT, WIDTH = 64, 96
SMALL = dict(
    model='resnest',
    depth=14,
    width=1 / 16,
    crop_height=64,
    crop_width=64,
    image_height=HEIGHT,
    image_width=WIDTH,
    batch_size=4,
    steps=4,
    learning_rate=0.01,
    photometric=False,
    eval_interval=0,
    log_interval=1,
)


def blobs(count, seed):
    """(BGR image, trainIds): four classes in rectangles, each of its own colour under noise, a
    border that does not count.
    """
    random = np.random.RandomState(seed)
    colours = np.array([[60, 60, 60], [180, 40, 40], [40, 180, 40], [60, 60, 200]])
    for _ in range(count):
        label = np.zeros([HEIGHT, WIDTH], np.uint8)
        for kind in (1, 2, 3):
            top, left = random.randint(0, HEIGHT - 24), random.randint(0, WIDTH - 24)
            label[top : top + 24, left : left + 24] = kind
        image = (
            (colours[label] + random.normal(0, 20, [HEIGHT, WIDTH, 3]))
            .clip(0, 255)
            .astype(np.uint8)
        )
        label[-4:] = cityscapes.IGNORE
        yield image, label


def write_records(path, count, seed):
    def bytes_of(array):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[array.tobytes()]))

    def number(value):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    path.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image, label in blobs(count, seed):
            writer.write(
                tf.train.Example(
                    features=tf.train.Features(
                        feature={
                            'image': bytes_of(image),
                            'label': bytes_of(label),
                            'height': number(HEIGHT),
                            'width': number(WIDTH),
                            'channels': number(3),
                        }
                    )
                ).SerializeToString()
            )


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """train/ (9 records) and val/ (3) in the published port's schema, written by TensorFlow."""
    folder = tmp_path_factory.mktemp('data')
    write_records(folder / 'train' / 'cityscapes_train.tfrecords', 9, 1)
    write_records(folder / 'val' / 'cityscapes_val.tfrecords', 3, 2)
    return folder


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """small(field=value, ...): path of a small recipe with these changes."""
    folder = tmp_path_factory.mktemp('recipes')

    def make(**changes):
        path = folder / ('%d.yaml' % len(list(folder.iterdir())))
        path.write_text(yaml.safe_dump(dict(SMALL, **changes)))
        return path

    return make


def call(*flags, report=False):
    with tf.Graph().as_default(), contextlib.ExitStack() as stack:
        if not report:
            stack.enter_context(mock.patch('common.reporting.report.write'))
        command.main(TASK, ['--device', 'cpu'] + [str(flag) for flag in flags])


def configured(recipe, *flags):
    """ResNeSt's Task and the configuration of a recipe."""
    return TASK, config.parse(
        TASK.config, ['--config', str(recipe)] + [str(flag) for flag in flags]
    )


@pytest.fixture(scope='module')
def finished(small, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    call(
        '--config',
        small(),
        '--data_path',
        data,
        '--output_path',
        folder,
        '--do_train',
        'True',
        report=True,
    )
    return folder


def predictions(prefix, **network):
    """[3, H, W] classes of val/'s images, by a graph and a normalisation of the test's own."""
    images = np.stack([image[..., ::-1] for image, _ in blobs(3, 2)])  # RGB
    normal = (images / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with tf.Graph().as_default(), tf.Session() as session:
        logits, _ = deeplab(
            tf.constant(normal, tf.float32),
            **dict(dict(depth=14, width=1 / 16, aux_head=False), **network),
        )
        tf.train.Saver().restore(session, str(prefix))
        return session.run(logits).argmax(axis=-1)


def confusion(found):
    matrix = np.zeros([19, 19], int)
    for (_, label), classes in zip(blobs(3, 2), found):
        for row, column in zip(label[label != 255], classes[label != 255]):
            matrix[row, column] += 1
    return matrix


# Training and evaluation


def test_run_ends_in_a_checkpoint_whose_evaluation_is_that_of_its_network(finished):
    matrix = confusion(predictions(finished / 'resnest.ckpt'))
    np.testing.assert_array_equal(np.load(str(finished / 'confusion.npy')), matrix)
    result = json.loads((finished / 'eval.json').read_text())
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    assert result['images'] == 3 and result['miou'] == pytest.approx(
        np.mean(np.diag(matrix)[union > 0] / union[union > 0])
    )
    assert result['accuracy'] == pytest.approx(np.trace(matrix) / matrix.sum())
    names = dict(tf.train.list_variables(str(finished / 'resnest.ckpt')))
    assert 'auxiliary/logits/kernel' in names and not any('Momentum' in name for name in names)


@pytest.fixture
def evaluate(finished, small, data, tmp_path):
    """evaluate(flag, ...): evaluates that run with these flags; writes to `tmp_path`."""

    def run(*flags):
        place = '--model_path', finished / 'resnest.ckpt', '--output_path', tmp_path
        call('--config', small(), '--data_path', data, *place, *flags)

    return run


def test_run_draws_samples_into_its_report(finished):
    samples = sorted((finished / 'samples').glob('*.png'))
    assert len(samples) == 3 and all(cv2.imread(str(path)) is not None for path in samples)
    report = (finished / 'report.md').read_text()
    assert (
        'samples/%s' % samples[0].name in report and 'plots/iou.png' in report and 'mIoU' in report
    )


def test_evaluation_saves_what_it_predicts(evaluate, finished, tmp_path, capsys):
    evaluate('--save_predictions', tmp_path / 'png')
    files = sorted((tmp_path / 'png' / 'labelIds').glob('*.png'))
    assert len(files) == 3
    wanted = cityscapes.LABEL_IDS[predictions(finished / 'resnest.ckpt')]
    np.testing.assert_array_equal(
        [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in files], wanted
    )
    miou = json.loads((tmp_path / 'eval.json').read_text())['miou']
    assert 'miou %.6f' % miou in capsys.readouterr().out


@pytest.mark.parametrize(
    'changes',
    [
        dict(
            loss='ohem',
            ohem_min_kept=100,
            aux_weight=0.0,
            accumulate=2,
            batch_size=2,
            optimizer='adam',
            ema_decay=0.9,
        ),
        dict(loss='focal', dropout_rate=0.5, photometric=True, freeze_bn=True, batch_size=1),
    ],
)
def test_every_way_of_training_lowers_the_loss(small, data, tmp_path, changes):
    call(
        '--config',
        small(steps=6, **changes),
        '--data_path',
        data / 'train',
        '--output_path',
        tmp_path,
        '--do_train',
        'True',
    )
    losses = [
        json.loads(line)['loss']
        for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()
        if json.loads(line)['kind'] == 'train'
    ]
    assert len(losses) == 6 and np.isfinite(losses).all() and np.mean(losses[-2:]) < losses[0]


def test_all_views_together_come_near_the_single_one(evaluate, finished, tmp_path):
    """Sliding windows, scales and mirrors see the same blobs: most pixels keep their class."""
    evaluate('--eval_mode', 'slide', '--eval_scales', '[0.75,1.0]', '--eval_flip', 'True')
    one, many = (json.loads((folder / 'eval.json').read_text()) for folder in (finished, tmp_path))
    assert many['images'] == 3 and abs(one['accuracy'] - many['accuracy']) < 0.3


# The published port's flags, records and checkpoints


NARROW = ['--width', 1 / 64, '--optimizer', 'sgd', '--eval_interval', 0]


def port_variables():
    """Names of the variables of the published port's checkpoint."""
    stored = ROOT / 'test' / 'data' / 'resnest_port_variables.json'
    return {name for name, _, _ in json.loads(stored.read_text())}


def test_ports_flags_train_its_network(data, tmp_path, monkeypatch):
    monkeypatch.setattr(model_port, '_BLOCKS', model_port._BLOCKS[:4])  # flags are not its depth
    call(
        '--train_data',
        data / 'train' / 'cityscapes_train.tfrecords',
        '--model_save_dir',
        tmp_path / 'save' / 'resnest.ckpt',
        '--is_training',
        'True',
        '--num_class',
        19,
        '--img_N',
        9,
        '--img_H',
        64,
        '--img_W',
        64,
        '--batch_size',
        4,
        '--epochs',
        1,
        '--learning_rate',
        0.00001,
        *NARROW,
    )
    saved = yaml.safe_load((tmp_path / 'save' / 'config.yaml').read_text())
    assert (saved['crop_height'], saved['crop_width'], saved['variant'], saved['loss']) == (
        64,
        64,
        'port',
        'focal',
    )
    ours = dict(tf.train.list_variables(str(tmp_path / 'save' / 'resnest.ckpt')))
    assert ours.pop('global_step') == [] and set(ours) < port_variables()


def test_a_checkpoint_of_the_port_is_evaluated(data, tmp_path, capsys):
    """With all of its variables, also those without effect."""
    cfg = config.parse(TASK.config, [str(word) for word in ['--is_training', 'True', *NARROW]])
    shapes, random = restore.network_variables(TASK, cfg, training=True), np.random.RandomState(0)
    dead = port_variables() - set(shapes)
    assert len(dead) == 80 and set(shapes) < port_variables()
    prefix = tmp_path / 'resnest.ckpt-182'
    shapes.update({name: [3] for name in dead})
    checkpoint.write(
        str(prefix),
        {name: random.uniform(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()},
    )
    call(
        '--train_data',
        data / 'val' / 'cityscapes_val.tfrecords',
        '--model_path',
        prefix,
        '--is_training',
        'False',
        '--num_class',
        19,
        '--img_H',
        HEIGHT,
        '--img_W',
        WIDTH,
        '--batch_size',
        1,
        *NARROW,
    )
    assert 'miou' in capsys.readouterr().out
    assert json.loads((tmp_path / 'eval.json').read_text())['images'] == 3

    count = len(shapes) - len(dead)
    match = restore.plan_restore(TASK, cfg, str(prefix), training=True)
    assert 'restored %d of %d variables; dropped: 80 unused' % (count, count) in match.report


# Starting from a checkpoint


def test_backbone_starts_training_and_both_heads_are_new(finished, small, tmp_path):
    whole = checkpoint.Checkpoint(str(finished / 'resnest.ckpt'))
    backbone = {
        name: whole.read(name)
        for name in whole.shapes
        if name.split('/')[0] not in ('head', 'auxiliary', 'global_step')
    }
    checkpoint.write(str(tmp_path / 'backbone.ckpt'), backbone)
    prefix = str(tmp_path / 'backbone.ckpt')
    found = restore.plan_restore(*configured(small()), prefix, training=True)
    assert set(found.names) == set(backbone)
    assert (
        'restored %d of %d variables; newly initialised: head/'
        % (len(backbone), len(whole.shapes) - 1)
        in found.report
    )
    with pytest.raises(UserError, match='missing.*a ResNeSt-14 backbone.*without a head'):
        restore.plan_restore(*configured(small()), prefix)


def test_reload_writes_the_network_alone(finished, small, tmp_path, capsys):
    recipe = small()
    export_weights.main(
        [
            '--model',
            'resnest',
            '--config',
            str(recipe),
            '--model_path',
            str(finished / 'model.ckpt-4'),
            '--output',
            str(tmp_path / 'premodel' / 'resnest.ckpt'),
        ]
    )
    assert 'weights only' in capsys.readouterr().out
    old, new = (
        checkpoint.Checkpoint(str(finished / 'model.ckpt-4')),
        checkpoint.Checkpoint(str(tmp_path / 'premodel' / 'resnest.ckpt')),
    )
    assert set(new.shapes) == set(restore.network_variables(*configured(recipe), training=True)) | {
        'global_step'
    } and len(old.shapes) > len(new.shapes)
    for name in new.shapes:
        np.testing.assert_array_equal(new.read(name), old.read(name))


def test_reinit_head_trains_other_classes(finished, small, data):
    prefix = str(finished / 'resnest.ckpt')
    with pytest.raises(UserError, match='19 classes.*--num_classes 19'):
        restore.plan_restore(*configured(small(num_classes=5)), prefix, training=True)
    found = restore.plan_restore(
        *configured(small(num_classes=5, reinit_head=True)), prefix, training=True
    )
    left = set(restore.network_variables(*configured(small(num_classes=5)), training=True)) - set(
        found.names
    )
    assert left == {
        'head/logits/kernel',
        'head/logits/bias',
        'auxiliary/logits/kernel',
        'auxiliary/logits/bias',
    }


# Mistakes


@pytest.mark.parametrize(
    'flags, message',
    [
        (dict(batch_size=1), 'batch_size: 1 image at a time cannot train'),
        (dict(min_scale=3.0), 'min_scale: 3.0 is not legal; it is above max_scale, 2'),
        (dict(eval_scales=[0.25]), 'eval_scales'),
        (dict(crop_height=16), 'crop_height: 16 is not legal; give at least 32'),
        (dict(variant='port'), "depth: 14 is not legal; the port's network has depth 50"),
        (dict(slide_stride=1.5), 'slide_stride'),
        (dict(image_pooling=[3]), 'image_pooling'),
        (dict(loss='ohem', label_smoothing=0.1), 'label_smoothing'),
        (dict(num_classes=256), 'num_classes'),
        (dict(ohem_threshold=2.0), 'ohem_threshold'),
        (dict(crop_hight=64), 'crop_height'),
    ],
)
def test_what_cannot_be_is_said_in_a_line(small, data, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit) as stop:
        call(
            '--config',
            small(**flags),
            '--data_path',
            data,
            '--output_path',
            tmp_path / 'run',
            '--do_train',
            'True',
        )
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and len(error.strip().splitlines()) == 1


def test_small_batch_is_warned_about(finished, small):
    assert 'warning: batch norm sees 4 images at a time' in (finished / 'log.txt').read_text()
    assert configured(small())[1].training_notes(2) == []
    assert configured(small(sync_bn=False))[1].training_notes(2) != []


def test_images_of_another_size_than_evaluated_are_named(finished, small, data, capsys):
    with pytest.raises(SystemExit):
        call(
            '--config',
            small(image_height=128),
            '--data_path',
            data,
            '--model_path',
            finished / 'resnest.ckpt',
        )
    assert '--image_height' in capsys.readouterr().err


# Recipes


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_recipe_says_what_it_is(path):
    head = [line for line in path.read_text().splitlines() if line.startswith('#')]
    for word in ('command:', 'expected:', 'hardware:', 'duration:', 'source:'):
        assert any(line.startswith('# ' + word) for line in head), word
    shallow = [] if 'port' in path.stem else ['--depth', 14]  # the port has one depth
    assert configured(path) and restore.network_variables(*configured(path, *shallow))


# Two processes


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec('horovod'), reason='Horovod is not installed')
def test_two_processes_train_and_evaluate_as_one(finished, data, small, start, tmp_path):
    """On the stand-in for Ascend devices; test_sync_bn.py compares two ranks of a CPU."""

    def words(recipe, output):
        """Three more steps from the same weights."""
        return [
            '--config',
            recipe,
            '--data_path',
            data,
            '--output_path',
            output,
            '--do_train',
            'True',
            '--steps',
            3,
            '--learning_rate',
            0.001,
            '--model_path',
            finished / 'resnest.ckpt',
        ]

    alone = tmp_path / 'alone'
    call(*words(small(), alone))
    launcher = [
        'env',
        'ASCEND_SIM_DIR=%s' % (tmp_path / 'sim'),
        'OMP_NUM_THREADS=1',
        ROOT / 'test' / 'ascend_sim' / 'env.sh',
        sys.executable,
        '-m',
        'hccl.launch',
        '--devices',
        '0-1',
        '--log_dir',
        tmp_path / 'logs',
        '--',
    ]
    process = start(
        *map(str, words(small(batch_size=2), tmp_path / 'run')),
        '--device',
        'npu',
        '--precision',
        'float32',
        cwd=tmp_path,
        launcher=launcher,
        script=RUN,
    )
    status, out, error = process.finish(400)
    assert status == 0, out + error
    logged = [
        [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
        for folder in (tmp_path / 'run', alone)
    ]
    losses = [[row['loss'] for row in rows if row['kind'] == 'train'] for rows in logged]
    assert logged[0][0]['ranks'] == 2 and len(losses[0]) == 3
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    one, two = (
        checkpoint.Checkpoint(str(alone / 'resnest.ckpt')),
        checkpoint.Checkpoint(str(tmp_path / 'run' / 'resnest.ckpt')),
    )
    for name in one.shapes:
        np.testing.assert_allclose(
            two.read(name), one.read(name), atol=1e-3, rtol=1e-2, err_msg=name
        )
    found, expected = (
        json.loads((folder / 'eval.json').read_text()) for folder in (tmp_path / 'run', alone)
    )
    assert found['images'] == 3 and found['accuracy'] == pytest.approx(
        expected['accuracy'], abs=0.01
    )
