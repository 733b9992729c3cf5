"""--predict: image files to classes, here with a small WideResNet. PNGs of 32x32 reach the network
untouched, so its logits can be recomputed.
"""

import csv
import json

import cv2
import numpy as np
import pytest
import tensorflow as tf

from common.data import images
from wideresnet_tf import model
from wideresnet_tf.config import WideResNetConfig

COUNT, CLASSES = 5, 4


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """(prefix of a checkpoint of random weights, COUNT images uint8 RGB, their logits)."""
    folder = tmp_path_factory.mktemp('trained')
    pixels = np.random.RandomState(0).randint(256, size=(COUNT, 32, 32, 3)).astype(np.uint8)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(3)
        logits = model.build(
            tf.constant(pixels / 127.5 - 1, tf.float32),
            WideResNetConfig(depth=10, widen_factor=1, num_classes=CLASSES),
        )
        session.run(tf.global_variables_initializer())
        expected = session.run(logits).astype(np.float64)
        prefix = tf.train.Saver().save(
            session, str(folder / 'wideresnet.ckpt'), write_meta_graph=False
        )
    assert expected.std(axis=0).max() > 0.01  # it is the images that make them
    return prefix, pixels, expected


@pytest.fixture
def photos(trained, tmp_path):
    """A folder with a.png ... d.png and sub/e.png, and files that are no images by their names."""
    (tmp_path / 'photos' / 'sub').mkdir(parents=True)
    for name, pixels in zip(['a.png', 'b.PNG', 'c.png', 'd.png', 'sub/e.png'], trained[1]):
        (tmp_path / 'photos' / name).write_bytes(
            cv2.imencode('.png', pixels[:, :, ::-1])[1].tobytes()
        )
    (tmp_path / 'photos' / 'notes.txt').write_text('not an image')
    (tmp_path / 'photos' / '.hidden.png').write_text('not an image')
    return tmp_path / 'photos'


@pytest.fixture
def predict(run, recipe, trained, tmp_path):
    """predict(path, ..., flag, ...): runs the command; returns predictions.json."""

    def call(*words, **changes):
        run(
            '--config',
            recipe(batch_size=2, **changes),
            '--predict',
            *words,
            '--model_path',
            trained[0],
            '--output_path',
            tmp_path / 'out',
        )
        return json.loads((tmp_path / 'out' / 'predictions.json').read_text())

    return call


def fails(capsys, call, *words, status=2, **changes):
    with pytest.raises(SystemExit) as stop:
        call(*words, **changes)
    assert stop.value.code == status
    return capsys.readouterr().err


def test_probabilities_are_the_softmax_of_the_networks_logits(
    predict, trained, photos, tmp_path, capsys
):
    result = predict(photos)
    prefix, _, logits = trained
    assert (result['model'], result['checkpoint'], result['skipped']) == ('wideresnet', prefix, {})
    assert [prediction['file'] for prediction in result['predictions']] == [
        str(photos / name) for name in ('a.png', 'b.PNG', 'c.png', 'd.png', 'sub/e.png')
    ]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for prediction, row in zip(result['predictions'], expected):
        assert [top['class'] for top in prediction['top']] == np.argsort(-row).tolist()
        np.testing.assert_allclose(
            [top['probability'] for top in prediction['top']], np.sort(row)[::-1], rtol=1e-4
        )
    printed = capsys.readouterr().out.splitlines()
    best = int(expected[0].argmax())
    assert printed[0] == str(photos / 'a.png') and printed[1].split() == [
        '%.2f' % (100 * expected[0].max()),
        '%',
        str(best),
    ]
    assert printed[-1].startswith('5 of 5 images: ')

    with open(str(tmp_path / 'out' / 'predictions.csv'), newline='') as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == COUNT * CLASSES and list(rows[0]) == [
        'file',
        'rank',
        'class',
        'name',
        'probability',
    ]
    assert [row['rank'] for row in rows] == ['1', '2', '3', '4'] * COUNT
    assert rows[0]['class'] == rows[0]['name'] == str(best) and float(
        rows[0]['probability']
    ) == pytest.approx(expected[0].max(), abs=1e-5)


def test_names_of_a_file_and_of_the_data(predict, trained, photos, tmp_path, capsys):
    best = int(trained[2][0].argmax())
    names = ['cat, tabby', 'dog', 'crème', 'bird']
    (tmp_path / 'names.txt').write_text('\n'.join(names) + '\n', 'utf-8')
    assert (
        predict(photos / 'a.png', '--class_names', tmp_path / 'names.txt')['predictions'][0]['top'][
            0
        ]['name']
        == names[best]
    )

    (tmp_path / 'data' / 'test').mkdir(parents=True)
    (tmp_path / 'data' / 'test' / 'dataset.json').write_text(json.dumps({'classes': list('wxyz')}))
    data = ('--data_path', tmp_path / 'data')
    assert predict(photos / 'a.png', *data)['predictions'][0]['top'][0]['name'] == 'wxyz'[best]
    assert (
        predict(photos / 'a.png', *data, '--class_names', tmp_path / 'names.txt')['predictions'][0][
            'top'
        ][0]['name']
        == names[best]
    )
    # The 4 classes are not those that dataset.json names.
    assert predict(photos / 'a.png', *data, label='coarse_label')['predictions'][0]['top'][0][
        'name'
    ] == str(best)

    (tmp_path / 'data' / 'test' / 'dataset.json').write_text(json.dumps({'classes': list('xyz')}))
    assert 'dataset.json names 3 classes, the network has 4; give --class_names' in fails(
        capsys, predict, photos, *data
    )
    (tmp_path / 'data' / 'test' / 'dataset.json').write_text('{')
    assert 'dataset.json cannot be read' in fails(capsys, predict, photos, *data)
    (tmp_path / 'names.txt').write_text('')
    assert 'names.txt names 0 classes' in fails(
        capsys, predict, photos, '--class_names', tmp_path / 'names.txt'
    )
    assert 'absent.txt cannot be read' in fails(
        capsys, predict, photos, '--class_names', tmp_path / 'absent.txt'
    )


def test_unreadable_images_are_named_and_left_out(predict, trained, photos, tmp_path, capsys):
    jpeg = cv2.imencode('.jpg', trained[1][0])[1].tobytes()
    (photos / 'text.jpg').write_text('not an image')
    (photos / 'empty.jpg').write_bytes(b'')
    (photos / 'short.jpg').write_bytes(jpeg[: len(jpeg) // 2])
    error = fails(capsys, predict, photos, photos / 'absent.png', status=1)
    for name, why in [
        ('text.jpg', 'it is not an image'),
        ('empty.jpg', 'the file is empty'),
        ('short.jpg', 'the JPEG is cut off'),
        ('absent.png', 'No such file'),
    ]:
        assert 'skipped %s: %s' % (photos / name, why) in error
    assert error.endswith('error: 4 of 9 images could not be read\n')
    result = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    assert set(result['skipped']) == {
        str(photos / name) for name in ('text.jpg', 'empty.jpg', 'short.jpg', 'absent.png')
    }
    assert [prediction['file'][-5:] for prediction in result['predictions']] == [
        'a.png',
        'b.PNG',
        'c.png',
        'd.png',
        'e.png',
    ]
    assert [prediction['top'][0]['class'] for prediction in result['predictions']] == trained[
        2
    ].argmax(axis=1).tolist()


def test_no_readable_image_at_all(predict, photos, tmp_path, capsys):
    assert 'error: 1 of 1 images could not be read' in fails(
        capsys, predict, photos / 'notes.txt', status=1
    )
    assert json.loads((tmp_path / 'out' / 'predictions.json').read_text())['predictions'] == []


def test_mistakes_are_one_line(run, recipe, trained, photos, tmp_path, capsys):
    (tmp_path / 'nothing').mkdir()
    for words, message in [
        (
            (tmp_path / 'nothing', '--model_path', trained[0]),
            'nothing: the folder holds no image (.jpg, ',
        ),
        ((photos,), '--predict needs a checkpoint'),
        ((photos, '--model_path', trained[0], '--do_train', 'True'), 'no --do_train True'),
        ((photos, '--model_path', trained[0], '--class_name', 'x'), 'unknown flag --class_name'),
        ((photos, '--model_path', trained[0], '--num_classes', 9), 'use --variant paper'),
        ((), '--predict: expected at least one argument'),
    ]:
        error = fails(capsys, run, '--config', recipe(), '--predict', *words)
        assert message in error and error.startswith('error: ') and error.count('\n') == 1


# Image files


def test_images_decode_to_rgb():
    pixels = np.random.RandomState(1).randint(256, size=(6, 9, 3)).astype(np.uint8)
    assert np.array_equal(
        images.decode(cv2.imencode('.png', pixels[:, :, ::-1])[1].tobytes()), pixels
    )
    grey = images.decode(cv2.imencode('.png', pixels[:, :, 0])[1].tobytes())
    assert np.array_equal(grey, np.repeat(pixels[:, :, :1], 3, axis=2))
    transparent = np.dstack([pixels[:, :, ::-1], pixels[:, :, 0]])
    assert np.array_equal(images.decode(cv2.imencode('.png', transparent)[1].tobytes()), pixels)


def test_jpegs_decode_as_tensorflow_does():
    smooth = cv2.resize(
        np.random.RandomState(2).randint(256, size=(4, 5, 3)).astype(np.uint8),
        (50, 40),
        interpolation=cv2.INTER_CUBIC,
    )
    jpeg = cv2.imencode('.jpg', smooth)[1].tobytes()
    # An EXIF orientation of 6, "rotate by 90 degrees", which TensorFlow overlooks.
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
    rotated = jpeg[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + jpeg[2:]
    with tf.Graph().as_default(), tf.Session() as session:
        expected = session.run(
            tf.image.decode_jpeg(jpeg, channels=3, dct_method='INTEGER_ACCURATE')
        ).astype(int)
    for data in (jpeg, rotated):
        assert np.abs(images.decode(data).astype(int) - expected).max() <= 1
