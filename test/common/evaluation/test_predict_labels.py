"""--predict and --show_batch of a segmentation: PNGs of each photo's own size, here with a narrow
ResNeSt of initial weights.
"""

import json

import cv2
import numpy as np
import pytest
import tensorflow as tf
import yaml

from common import host, models
from common import run as command
from common.configuration import config
from common.evaluation import predict
from resnest_tf import cityscapes, input_pipeline, model
from resnest_tf.task import TASK

HEIGHT, WIDTH = 64, 96
SMALL = dict(
    model='resnest',
    depth=14,
    width=1 / 16,
    image_height=HEIGHT,
    image_width=WIDTH,
    crop_height=48,
    crop_width=48,
    device='cpu',
)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """(flags, images uint8 RGB [2,H,W,3], their classes uint8 [2,H,W], whether they are sure, bool
    [2,H,W]); the weights are random. Unsure are ties, with Intel's build, which rounds otherwise in
    each session.
    """
    folder = tmp_path_factory.mktemp('trained')
    (folder / 'recipe.yaml').write_text(yaml.safe_dump(SMALL))
    flags = ['--config', str(folder / 'recipe.yaml'), '--model_path', str(folder / 'r.ckpt')]
    cfg = config.parse(TASK.config, flags)
    random = np.random.RandomState(0)
    pixels = random.randint(256, size=(2, HEIGHT // 8, WIDTH // 8, 3)).astype(np.uint8)
    pixels = pixels.repeat(8, axis=1).repeat(8, axis=2)
    with tf.Graph().as_default(), tf.Session() as session:
        logits = model.build(input_pipeline.normalize(tf.constant(pixels), cfg), cfg)
        kernels = {}
        for variable in tf.trainable_variables():
            if variable.op.name.endswith('kernel'):
                shape = variable.shape.as_list()
                value = random.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape)
                kernels[variable.initializer.inputs[1]] = value
        session.run(tf.global_variables_initializer(), kernels)
        scores = session.run(logits)
        tf.train.Saver().save(session, str(folder / 'r.ckpt'), write_meta_graph=False)
    classes = scores.argmax(axis=3).astype(np.uint8)
    second, first = np.moveaxis(np.sort(scores)[..., -2:], 3, 0)
    sure = first - second > 1e-5 * np.abs(scores).max() if host.is_mkl() else first >= second
    assert len(np.unique(classes)) > 2 and sure.mean() > 0.99
    return flags, pixels, classes, sure


def read(path):
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return picture if picture.ndim == 2 else picture[..., ::-1]


def test_label_colour_and_overlay_of_each_image(trained, tmp_path, capsys):
    flags, pixels, classes, sure = trained
    for folder, index, scale in (('a', 0, 1), ('b', 1, 3)):  # the second photo is larger
        (tmp_path / folder).mkdir()
        photo = pixels[index].repeat(scale, axis=0).repeat(scale, axis=1)
        cv2.imwrite(str(tmp_path / folder / 'street.png'), photo[..., ::-1])
    words = ['--predict', tmp_path / 'a', tmp_path / 'b', '--output_path', tmp_path / 'out']
    command.main(TASK, [str(word) for word in words] + flags)
    out = tmp_path / 'out'
    for name, index, scale in (('street', 0, 1), ('street_2', 1, 3)):
        expected, photo, kept = (
            pictures[index].repeat(scale, axis=0).repeat(scale, axis=1)
            for pictures in (classes, pixels, sure)
        )
        ids = read(out / 'labelIds' / (name + '_pred_labelIds.png'))
        np.testing.assert_array_equal(ids[kept], cityscapes.LABEL_IDS[expected][kept])
        colours = read(out / 'color' / (name + '.png'))
        np.testing.assert_array_equal(colours[kept], cityscapes.PALETTE[expected][kept])
        overlay = read(out / 'overlay' / (name + '.png')).astype(int)
        mixed = photo / 2.0 + cityscapes.PALETTE[expected] / 2.0
        assert np.abs(overlay - mixed)[kept].max() <= 1
    assert read(out / 'contact_sheet.png').shape == (24 + HEIGHT + 8, 2 * (WIDTH + 8) + 8, 3)
    content = json.loads((out / 'predictions.json').read_text())
    first = content['predictions'][0]
    assert (first['file'], first['name']) == (str(tmp_path / 'a' / 'street.png'), 'street')
    share = np.mean(classes[0] == 4)
    assert first['shares'].get(cityscapes.CLASSES[4], 0) == pytest.approx(share, abs=1e-4)
    assert capsys.readouterr().out.startswith('2 of 2 images: ')


def test_names_of_classes_are_for_classifiers(trained, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(TASK, ['--predict', str(tmp_path), '--class_names', 'x', *trained[0]])
    assert '--class_names is for classifiers; resnest labels pixels' in capsys.readouterr().err


def test_from_python(trained, tmp_path):
    flags, pixels, classes, sure = trained
    cv2.imwrite(str(tmp_path / 'street.png'), pixels[1][..., ::-1])
    task, cfg = models.configure('resnest', flags)
    [(file, labels)] = predict.run(task, cfg, [str(tmp_path / 'street.png')])
    assert file == tmp_path / 'street.png' and labels.dtype == np.uint8
    np.testing.assert_array_equal(labels[sure[1]], classes[1][sure[1]])
    np.testing.assert_array_equal(cfg.labels.colours(labels), cityscapes.PALETTE[labels])


def test_a_batch_with_its_labels(tmp_path, capsys):
    (tmp_path / 'train').mkdir()
    image = np.full([HEIGHT, WIDTH, 3], 200, np.uint8)
    label = np.full([HEIGHT, WIDTH], 13, np.uint8)
    feature = {
        'image': tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
        'label': tf.train.Feature(bytes_list=tf.train.BytesList(value=[label.tobytes()])),
    }
    for key, value in (('height', HEIGHT), ('width', WIDTH), ('channels', 3)):
        feature[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    record = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    with tf.io.TFRecordWriter(str(tmp_path / 'train' / 'a_train.tfrecord')) as writer:
        for _ in range(3):
            writer.write(record)
    (tmp_path / 'recipe.yaml').write_text(
        yaml.safe_dump(dict(SMALL, photometric=False, min_scale=1.0, max_scale=1.0))
    )
    words = ['--show_batch', '3', '--config', tmp_path / 'recipe.yaml', '--data_path', tmp_path]
    command.main(TASK, [str(word) for word in words] + ['--output_path', str(tmp_path)])
    assert capsys.readouterr().out == '%s\n' % (tmp_path / 'batch.png')
    picture = read(tmp_path / 'batch.png')
    assert picture.shape == (24 + 48 + 8, 3 * (48 + 8) + 8, 3)
    expected = 100 + cityscapes.PALETTE[13] // 2
    np.testing.assert_array_equal(picture[24 + 24, 8 + 24], expected)
