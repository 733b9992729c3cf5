"""xception_tf.input_pipeline from records to batches: schemas, labels, odd and damaged images."""

import itertools
import json
import pathlib
import types

import numpy as np
import pytest
import tensorflow as tf
import yaml
from numpy_images import waves
from photos import CLASSES, SIZE, cfg, complaint, encoded, photo, run, write

from common import benchmark
from common.configuration import config
from common.data import pipeline, record_writer, records
from common.errors import UserError
from xception_tf import input_pipeline
from xception_tf.config import XceptionConfig
from xception_tf.task import TASK

CONFIGS = pathlib.Path(input_pipeline.__file__).parent / 'configs'


# Records


@pytest.mark.parametrize('schema, first', [('slim', 1), ('port', 0)])
def test_both_schemas(tmp_path, schema, first):
    jpegs = [photo(80, 90 + 5 * i, seed=i) for i in range(5)]
    labels = [3, 0, 4, 1, 2]
    batches = run(write(tmp_path, jpegs, [label + first for label in labels], schema), cfg())
    for batch in batches:
        assert sorted(batch) == ['id', 'image', 'label', 'mask']
        assert batch['image'].dtype == np.uint8 and batch['label'].dtype == np.int32
    found = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    assert found['label'].tolist() == labels + [3]  # the last batch is filled up with record 0
    assert found['mask'].tolist() == [1, 1, 1, 1, 1, 0]
    for pixels, jpeg in zip(found['image'], jpegs):
        assert np.array_equal(pixels, input_pipeline.decode(jpeg, cfg()))


def described(path, offset, labels):
    """A folder of our own: with dataset.json."""
    record_writer.write(
        path,
        [{'image/encoded': photo(80, 80), 'image/class/label': label} for label in labels],
        dict,
        name='x',
        split=path.name,
        schema={'image/encoded': {}, 'image/class/label': {}},
        workers=1,
        metadata={'label_offset': offset},
    )


@pytest.mark.parametrize('offset', [0, 1])
def test_label_offset_of_dataset_json(tmp_path, offset):
    settings = cfg(data_path=str(tmp_path))

    def labels(split, settings=settings):
        return run(pipeline.open_split(TASK, settings, split), settings)[0]['label'].tolist()

    described(tmp_path / 'train', offset, [offset, offset + 4])
    assert labels('train') == [0, 4]
    described(tmp_path / 'val', 1 - offset, [1])
    message = 'label_offset: found %d, but the labels in %s/val start at %d'
    with pytest.raises(UserError, match=message % (offset, tmp_path, 1 - offset)):
        labels('val', cfg(data_path=str(tmp_path), label_offset=offset))
    assert labels('val') == [offset, offset]


def test_label_offset_of_the_recipe(tmp_path):
    folder = write(tmp_path, [photo(80, 80)] * 2, [0, 4])
    assert run(folder, cfg(label_offset=0))[0]['label'].tolist() == [0, 4]
    for training in (False, True):
        assert (
            complaint(folder, cfg(), training)
            == '%s/a.tfrecord: record 0 at byte 0 (image_0.JPEG): it has label 0; with'
            ' --num_classes 5 and --label_offset 1 legal are 1 to 5' % folder
        )
    assert (
        '(image_1.JPEG): it has label 4; with --num_classes 4 and --label_offset 0 legal'
        ' are 0 to 3' in complaint(folder, cfg(label_offset=0, num_classes=4), False)
    )
    folder = write(tmp_path / 'none', [photo(80, 80)], [None], names=['n.JPEG'])
    assert 'record 0 at byte 0 (n.JPEG): it has no label' in complaint(folder, cfg(), False)


# Images that are not what they should be


def damaged():
    good = photo(100, 120)
    noise, size = np.random.RandomState(0).bytes(500), good.index(b'\xff\xc0') + 5
    return {
        'cut': good[: len(good) // 2],
        'header': good[:30],
        'garbage': noise,
        'empty': b'',
        'start': b'\xff\xd8' + noise,
        'flat': good[:size] + bytes(4) + good[size + 4 :],
    }


@pytest.mark.parametrize('way', ['random', 'plain', 'resize_crop'])
@pytest.mark.parametrize('kind', sorted(damaged()))
def test_damaged_images_are_named(tmp_path, kind, way):
    data, name = damaged()[kind], 'ILSVRC2012_val_00000007.JPEG'
    settings = cfg(eval_preprocessing='plain' if way == 'random' else way)
    folder = write(tmp_path, [data], [1], names=[name])
    line = complaint(folder, settings, training=way == 'random')
    assert line.startswith('%s/a.tfrecord: record 0 at byte 0 (%s): ' % (folder, name))
    assert 'prepare the records again' in line
    if way != 'random':
        with pytest.raises(ValueError):
            input_pipeline.decode(data, settings)


UNUSUAL = {
    'png': dict(kind='PNG'),
    'cmyk': dict(mode='CMYK', quality=100),
    'grey': dict(mode='L'),
    'progressive': dict(progressive=True),
    '420': dict(subsampling=2),
}


@pytest.mark.parametrize('kind', UNUSUAL)
@pytest.mark.parametrize('way', ['random', 'plain', 'resize_crop'])
def test_unusual_images_are_read(tmp_path, kind, way):
    pixels = waves(140, 150, seed=2)
    if kind == 'grey':
        pixels = pixels[..., :1].repeat(3, -1)
    settings = cfg(eval_preprocessing='plain' if way == 'random' else way, flip=False)

    def read(name, **options):
        folder = write(tmp_path / name, [encoded(pixels, **options)], [1])
        (batch,) = run(folder, settings, training=way == 'random', batch_size=1, steps=1)
        return batch['image'][0].astype(int)

    found = read('unusual', **UNUSUAL[kind])
    assert np.abs(found - read('usual', quality=100)).mean() < 2.5 and found.std() > 20


# Configuration and measurement


@pytest.mark.parametrize(
    'flag, value, message',
    [
        ('min_area', '1.5', 'min_area: 1.5 is not legal; give at most 1'),
        ('min_area', '0', 'min_area'),
        ('color_jitter', '2', 'color_jitter: 2.0 is not legal'),
        ('label_offset', '-1', 'label_offset'),
        ('eval_preprocessing', 'resize_corp', "did you mean 'resize_crop'"),
        ('train_preprocessing', 'resize_crop', 'random_resized_crop'),
    ],
)
def test_illegal_values(flag, value, message):
    with pytest.raises(UserError, match=message):
        config.parse(XceptionConfig, ['--' + flag, value])


def test_the_published_ports_recipe_keeps_its_preprocessing():
    values = yaml.safe_load((CONFIGS / 'xception_imagenet_port.yaml').read_text())
    assert values['train_preprocessing'] == values['eval_preprocessing'] == 'plain'
    assert values['image_size'] == 299


@pytest.mark.parametrize('schema', ['slim', 'port'])
def test_benchmark_compares_with_the_ports_pipeline(tmp_path, capsys, schema, monkeypatch):
    jpegs = [photo(100, 120, seed=i) for i in range(4)]
    folder = records.Folder.open(write(tmp_path / 'train', jpegs, [1, 2, 3, 4], schema))
    with tf.Graph().as_default(), tf.Session() as session:
        baselines = input_pipeline.baselines(folder, cfg(batch_size=2))
        port, shapes = session.run(
            [
                baselines[key]().make_one_shot_iterator().get_next()['label']
                for key in ('port', 'decode')
            ]
        )
        decoded = [tf.image.decode_jpeg(jpeg, channels=3) for jpeg in jpegs[:2]]
        resized = [tf.image.resize_images(image, [SIZE, SIZE]) / 127.5 - 1 for image in decoded]
        np.testing.assert_allclose(port, session.run(resized), atol=1e-6)
    assert shapes.tolist() == [[100, 120, 3]] * 2
    values = dict(model='xception', image_size=SIZE, num_classes=CLASSES, batch_size=2)
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text(yaml.safe_dump(dict(values, device='cpu')))
    clock = (n / 1000 for n in itertools.accumulate(itertools.count(1)))  # milliseconds
    monkeypatch.setattr(benchmark, 'time', types.SimpleNamespace(perf_counter=clock.__next__))
    places = ['--config', str(recipe), '--data_path', str(tmp_path)]
    benchmark.main(['input', *places, '--rounds', '1', '--round_steps', '2'])
    found = json.loads(capsys.readouterr().out)
    assert found['model'] == 'xception' and found['batch_size'] == 2
    for key in ('port', 'decode'):
        ratio = found['input_images_per_second'] / found[key + '_images_per_second']
        assert found['input_to_' + key] == pytest.approx(ratio, abs=0.01, rel=0.01)
