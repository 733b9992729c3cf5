"""run_resnest.py from flags to files, on narrow networks and drawn blobs of 64x96 pixels."""

import importlib.util
import pathlib
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf
import yaml
from resnest_networks import deeplab
from run_files import evaluation, rows
from small_runs import HEIGHT, WIDTH, blobs, call

from common import export_weights
from common.checkpoints import checkpoint, restore
from common.configuration import config
from common.errors import UserError
from resnest_tf import cityscapes
from resnest_tf.task import TASK

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
STAND_IN = ROOT / 'test' / 'ascend_sim' / 'env.sh'
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


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """small(field=value, ...): path of a small recipe with these changes."""
    folder = tmp_path_factory.mktemp('recipes')

    def make(**changes):
        path = folder / ('%d.yaml' % len(list(folder.iterdir())))
        path.write_text(yaml.safe_dump(dict(SMALL, **changes)))
        return path

    return make


@pytest.fixture(scope='module')
def words(small, blob_records):
    """words(output, field=value, ...): of a training command, with these changes of its recipe."""
    return lambda output, **changes: (
        *('--do_train True --config', small(**changes)),
        *('--data_path', blob_records, '--output_path', output),
    )


def configured(recipe):
    """ResNeSt's Task and the configuration of a recipe."""
    return TASK, config.parse(TASK.config, ['--config', str(recipe)])


@pytest.fixture(scope='module')
def finished(words, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    call(*words(folder), report=True)
    return folder


def predictions(prefix):
    """[3, H, W] classes of val/'s images, by a graph and a normalisation of the test's own."""
    images = np.stack([image[..., ::-1] for image, _ in blobs(3, 2)])  # RGB
    normal = (images / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.constant(normal, tf.float32)
        logits, _ = deeplab(images, depth=14, width=1 / 16, aux_head=False)
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
    result = evaluation(finished)
    union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    miou = np.mean(np.diag(matrix)[union > 0] / union[union > 0])
    assert result['images'] == 3 and result['miou'] == pytest.approx(miou)
    assert result['accuracy'] == pytest.approx(np.trace(matrix) / matrix.sum())
    names = dict(tf.train.list_variables(str(finished / 'resnest.ckpt')))
    assert 'auxiliary/logits/kernel' in names and not any('Momentum' in name for name in names)


@pytest.fixture
def evaluate(finished, small, blob_records, tmp_path):
    """evaluate('words', ..., field=value, ...): evaluates that run with these words and changes of
    its recipe; writes to `tmp_path`.
    """

    def run(*more, **changes):
        place = '--model_path', finished / 'resnest.ckpt', '--output_path', tmp_path
        call('--config', small(**changes), '--data_path', blob_records, *place, *more)

    return run


def test_run_draws_samples_into_its_report(finished):
    samples = sorted((finished / 'samples').glob('*.png'))
    assert len(samples) == 3 and all(cv2.imread(str(path)) is not None for path in samples)
    report = (finished / 'report.md').read_text()
    for text in ('samples/%s' % samples[0].name, 'plots/iou.png', 'mIoU'):
        assert text in report


def test_evaluation_saves_what_it_predicts(evaluate, finished, tmp_path, capsys):
    evaluate('--save_predictions', tmp_path / 'png')
    files = sorted((tmp_path / 'png' / 'labelIds').glob('*.png'))
    assert len(files) == 3
    saved = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in files]
    wanted = cityscapes.LABEL_IDS[predictions(finished / 'resnest.ckpt')]
    np.testing.assert_array_equal(saved, wanted)
    assert 'miou %.6f' % evaluation(tmp_path)['miou'] in capsys.readouterr().out


OHEM = dict(loss='ohem', ohem_min_kept=100, aux_weight=0.0, accumulate=2, batch_size=2)
FOCAL = dict(loss='focal', dropout_rate=0.5, photometric=True, freeze_bn=True, batch_size=1)


@pytest.mark.parametrize('changes', [dict(OHEM, optimizer='adam', ema_decay=0.9), FOCAL])
def test_every_way_of_training_lowers_the_loss(words, blob_records, tmp_path, changes):
    """There is no val/ beside these records."""
    records = '--data_path', blob_records / 'train'
    call(*words(tmp_path, steps=6, **changes), *records)
    losses = [row['loss'] for row in rows(tmp_path, 'train')]
    assert len(losses) == 6 and np.isfinite(losses).all() and np.mean(losses[-2:]) < losses[0]


def test_all_views_together_come_near_the_single_one(evaluate, finished, tmp_path):
    """Sliding windows, scales and mirrors see the same blobs: most pixels keep their class."""
    evaluate('--eval_mode slide --eval_scales [0.75,1.0] --eval_flip True')
    one, many = evaluation(finished), evaluation(tmp_path)
    assert many['images'] == 3 and abs(one['accuracy'] - many['accuracy']) < 0.3


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
    counts = len(backbone), len(whole.shapes) - 1
    assert 'restored %d of %d variables; newly initialised: head/' % counts in found.report
    with pytest.raises(UserError, match='missing.*a ResNeSt-14 backbone.*without a head'):
        restore.plan_restore(*configured(small()), prefix)


def test_reload_writes_the_network_alone(finished, small, tmp_path, capsys):
    recipe, source, output = small(), finished / 'model.ckpt-4', tmp_path / 'new' / 'resnest.ckpt'
    words = '--model resnest --config %s --model_path %s --output %s' % (recipe, source, output)
    export_weights.main(words.split())
    assert 'weights only' in capsys.readouterr().out
    old, new = checkpoint.Checkpoint(str(source)), checkpoint.Checkpoint(str(output))
    variables = restore.network_variables(*configured(recipe), training=True)
    assert set(new.shapes) == set(variables) | {'global_step'}
    assert len(old.shapes) > len(new.shapes)
    for name in new.shapes:
        np.testing.assert_array_equal(new.read(name), old.read(name))


def test_reinit_head_trains_other_classes(finished, small):
    prefix, other = str(finished / 'resnest.ckpt'), configured(small(num_classes=5))
    with pytest.raises(UserError, match='19 classes.*--num_classes 19'):
        restore.plan_restore(*other, prefix, training=True)
    reinit = configured(small(num_classes=5, reinit_head=True))
    found = restore.plan_restore(*reinit, prefix, training=True)
    left = set(restore.network_variables(*other, training=True)) - set(found.names)
    assert left == {
        head + '/logits/' + name for head in ('head', 'auxiliary') for name in ('kernel', 'bias')
    }


# Mistakes


@pytest.mark.parametrize(
    'changes, message',
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
def test_what_cannot_be_is_said_in_a_line(words, tmp_path, capsys, changes, message):
    with pytest.raises(SystemExit) as stop:
        call(*words(tmp_path / 'run', **changes))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and len(error.strip().splitlines()) == 1


def test_small_batch_is_warned_about(finished, small):
    assert 'warning: batch norm sees 4 images at a time' in (finished / 'log.txt').read_text()
    assert configured(small())[1].training_notes(2) == []
    assert configured(small(sync_bn=False))[1].training_notes(2) != []


def test_images_of_another_size_than_evaluated_are_named(evaluate, capsys):
    with pytest.raises(SystemExit):
        evaluate(image_height=128)
    assert '--image_height' in capsys.readouterr().err


# Two processes


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec('horovod'), reason='Horovod is not installed')
def test_two_processes_train_and_evaluate_as_one(finished, words, start, tmp_path):
    """Three more steps from the same weights, on the stand-in for Ascend devices; test_sync_bn.py
    compares two ranks of a CPU.
    """
    alone, together = tmp_path / 'alone', tmp_path / 'run'
    more = '--steps 3 --learning_rate 0.001 --model_path %s' % (finished / 'resnest.ckpt')
    call(*words(alone), more)
    environment = ['env', 'ASCEND_SIM_DIR=%s' % (tmp_path / 'sim'), 'OMP_NUM_THREADS=1']
    launch = '-m hccl.launch --devices 0-1 --log_dir %s --' % (tmp_path / 'logs')
    process = start(
        *' '.join(map(str, words(together, batch_size=2))).split(),
        *(more + ' --device npu --precision float32').split(),
        cwd=tmp_path,
        launcher=environment + [STAND_IN, sys.executable] + launch.split(),
        script=ROOT / 'resnest_tf' / 'run_resnest.py',
    )
    status, out, error = process.finish(400)
    assert status == 0, out + error
    assert rows(together)[0]['ranks'] == 2
    losses = [[row['loss'] for row in rows(folder, 'train')] for folder in (together, alone)]
    assert len(losses[0]) == 3
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    one, two = (checkpoint.Checkpoint(str(folder / 'resnest.ckpt')) for folder in (alone, together))
    close = dict(atol=1e-3, rtol=1e-2)
    for name in one.shapes:
        np.testing.assert_allclose(two.read(name), one.read(name), err_msg=name, **close)
    found, expected = evaluation(together), evaluation(alone)
    assert found['images'] == 3
    assert found['accuracy'] == pytest.approx(expected['accuracy'], abs=0.01)
