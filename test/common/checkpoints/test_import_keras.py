"""Keras .h5 files, written by tf.keras itself where it can write them, and from such a file to a
checkpoint that computes the same.
"""

import collections
import os
import signal
import unittest.mock

import h5py
import numpy as np
import pytest
import tensorflow as tf

from common.checkpoints.importers import keras
from common.checkpoints.importers.keras import read
from common.errors import UserError
from common.import_weights import main
from xception_tf import model
from xception_tf.config import XceptionConfig

KERAS = 'tensorflow.python.keras.saving.hdf5_format.K.batch_get_value'


def command(weights, output, model='xception'):
    main(
        ['--model', model, '--layout', 'keras', '--weights', str(weights), '--output', str(output)]
    )


def fails(capsys, *args, **kwargs):
    with pytest.raises(SystemExit) as stop:
        command(*args, **kwargs)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    return error


# Xception, from tf.keras to our logits

Written = collections.namedtuple('Written', 'top no_top image logits parameters')


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """An Xception of tf.keras with 7 classes, not the first of its graph: its weights, itself
    without top, and its logits.
    """
    folder = tmp_path_factory.mktemp('keras')
    random = np.random.RandomState(0)
    image = random.uniform(-1, 1, [1, 71, 71, 3]).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.keras.backend.set_session(session)
        for _ in range(3):  # so that the numbers of the shortcuts start at 3
            tf.keras.layers.Conv2D(1, 1), tf.keras.layers.BatchNormalization()
        model = tf.keras.applications.Xception(
            weights=None, classes=7, input_tensor=tf.keras.Input((71, 71, 3))
        )
        values = {}
        for variable in model.weights:
            leaf, shape = variable.name.split(':')[0].split('/')[1], variable.shape.as_list()
            scale = np.sqrt(2 / (9 if leaf == 'depthwise_kernel' else np.prod(shape[:-1]) or 1))
            values[variable.name] = (
                random.normal(0, scale, shape)
                if 'kernel' in leaf
                else random.uniform(0.5, 1.5, shape)
            )
        model.set_weights([values[variable.name] for variable in model.weights])
        logits = session.run(model.output.op.inputs[0], {model.input: image})
        # tf.keras asks for the values layer by layer, each time of a graph of thousands of nodes.
        with unittest.mock.patch(
            KERAS,
            lambda variables: [values[variable.name].astype(np.float32) for variable in variables],
        ):
            model.save_weights(str(folder / 'xception.h5'))
            tf.keras.Model(model.input, model.get_layer('block14_sepconv2_act').output).save(
                str(folder / 'notop.h5')
            )
    parameters = sum(value.size for name, value in values.items() if 'moving' not in name)
    yield Written(folder / 'xception.h5', folder / 'notop.h5', image, logits, parameters)
    for file in folder.iterdir():
        file.unlink()  # 170 MB


def test_imported_checkpoint_gives_the_logits_of_keras(written, tmp_path, capsys):
    with h5py.File(str(written.top), 'r') as file:
        names = file.attrs['layer_names']
        assert b'conv2d_6' in names and b'conv2d_2' not in names
    prefix = tmp_path / 'imported' / 'xception.ckpt'
    command(written.top, prefix)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith('xception.ckpt: an Xception with 7 classes; use --num_classes 7')
    assert lines[-1].split() == ['total', '236', '{:,}'.format(written.parameters)]
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, written.image.shape)
        logits = model.build(images, XceptionConfig(num_classes=7))
        names = [name for name, _ in tf.train.list_variables(str(prefix))]
        assert sorted(names) == sorted(v.op.name for v in tf.global_variables())
        tf.train.Saver().restore(session, str(prefix))
        got = session.run(logits, {images: written.image})
    assert np.abs(got - written.logits).max() <= 1e-5 * np.abs(written.logits).max()


def test_import_without_top_says_that_there_is_no_classifier(written, tmp_path, capsys):
    command(written.no_top, tmp_path / 'xception.ckpt')
    assert (
        'an Xception without a classifier, to train one on; use --do_train True --reinit_head True'
        in capsys.readouterr().out
    )
    names = {name for name, _ in tf.train.list_variables(str(tmp_path / 'xception.ckpt'))}
    assert len(names) == 234 and not any(name.startswith('dense/') for name in names)


def test_failed_import_writes_nothing(tmp_path, capsys, small):
    assert 'weights.h5: not an Xception: that would have 34 layers' in fails(
        capsys, small('weights').path, tmp_path / 'out' / 'x.ckpt'
    )
    assert not (tmp_path / 'out').exists()


def test_models_that_cannot_be_imported_from_keras_say_so(tmp_path, capsys, small):
    assert 'wideresnet can import torch' in fails(
        capsys, small('weights').path, tmp_path / 'x.ckpt', model='wideresnet'
    )


# The reader, on small models of tf.keras

Small = collections.namedtuple('Small', 'path values')


@pytest.fixture
def small(tmp_path):
    """small(kind): a file that tf.keras wrote, and {layer: {weight: array}} that it must give."""

    def write(kind):
        path = tmp_path / (kind + '.h5')
        with tf.Graph().as_default(), tf.Session() as session:
            tf.keras.backend.set_session(session)
            layers = tf.keras.layers
            body = [
                layers.Conv2D(3, 3, input_shape=(5, 5, 2), use_bias=False, name='first'),
                layers.BatchNormalization(),
                layers.ReLU(),
            ]
            head = [layers.GlobalAveragePooling2D(), layers.Dense(4, name='top')]
            if kind == 'nested':
                inner = tf.keras.Sequential(body, name='backbone')
                model = tf.keras.Sequential([inner] + head)
            else:
                model = tf.keras.Sequential(body + head)
            random = np.random.RandomState(1)
            model.set_weights([random.uniform(size=v.shape.as_list()) for v in model.weights])
            if kind == 'whole':
                model.compile('adam', 'mse')
                model.train_on_batch(
                    np.ones([1, 5, 5, 2]), np.ones([1, 4])
                )  # gives the optimizer weights of its own
                model.save(str(path))
            else:
                model.save_weights(str(path))
            values = {}
            for variable, value in zip(model.weights, model.get_weights()):
                layer, leaf = variable.name.split(':')[0].split('/')[-2:]
                values.setdefault(layer, {})[leaf] = value
        return Small(path, values)

    return write


@pytest.mark.parametrize('kind', ['weights', 'whole', 'nested'])
def test_files_of_tf_keras_are_read(kind, small):
    path, values = small(kind)
    assert set(values) == {'first', 'batch_normalization', 'top'}
    layers = read(path)
    assert {layer: set(leaves) for layer, leaves in layers.items()} == {
        layer: set(leaves) for layer, leaves in values.items()
    }
    for layer, leaves in layers.items():
        for leaf, value in leaves.items():
            assert value.dtype == np.float32 and np.array_equal(value, values[layer][leaf])


def by_hand(path, layers, split=False, dtype=None):
    """A file in Keras's form: {layer: {name in the file: array}}."""

    def note(group, key, names):
        group.attrs.create(key, np.array(names, dtype or 'S'), dtype=dtype)

    with h5py.File(str(path), 'w') as file:
        if split:  # as Keras cuts lists of more than 64 KB
            note(file, 'layer_names0', list(layers)[:1])
            note(file, 'layer_names1', list(layers)[1:])
        else:
            note(file, 'layer_names', list(layers))
        for layer, weights in layers.items():
            group = file.create_group(layer)
            note(group, 'weight_names', list(weights))
            for name, value in weights.items():
                group[name] = value
    return path


def test_keras_1_names_become_todays(tmp_path):
    norm = 'gamma beta running_mean running_std'.split()
    old = {
        'convolution2d_1': {'W': np.ones([3, 3, 3, 2]), 'b': np.ones(2)},
        'activation_1': {},
        'batchnormalization_1': {leaf: np.full(2, i, float) for i, leaf in enumerate(norm, 1)},
        'separableconvolution2d_1': {
            'depthwise_kernel': np.ones([3, 3, 2, 1]),
            'pointwise_kernel': np.ones([1, 1, 2, 5]),
        },
    }
    named = {
        layer: {'%s_%s:0' % (layer, leaf): value for leaf, value in leaves.items()}
        for layer, leaves in old.items()
    }
    layers = read(by_hand(tmp_path / 'old.h5', named))
    assert list(layers) == ['convolution2d_1', 'batchnormalization_1', 'separableconvolution2d_1']
    assert set(layers['convolution2d_1']) == {'kernel', 'bias'}
    found = {leaf: value[0] for leaf, value in layers['batchnormalization_1'].items()}
    assert found == {'gamma': 1, 'beta': 2, 'moving_mean': 3, 'moving_variance': 4}
    assert set(layers['separableconvolution2d_1']) == {'depthwise_kernel', 'pointwise_kernel'}


@pytest.mark.parametrize(
    'options', [dict(split=True), dict(dtype=h5py.special_dtype(vlen=str))], ids=['cut', 'unicode']
)
def test_other_ways_to_store_names_and_numbers(tmp_path, options):
    layers = {
        name: {name + '/kernel:0': np.full(1, index, np.float16)}
        for index, name in enumerate('abc')
    }
    found = read(by_hand(tmp_path / 'w.h5', layers, **options))
    kernels = {layer: leaves['kernel'].tolist() for layer, leaves in found.items()}
    assert kernels == {'a': [0], 'b': [1], 'c': [2]}
    assert all(leaves['kernel'].dtype == np.float32 for leaves in found.values())


# Mistakes


def test_missing_and_foreign_files_are_one_line(tmp_path, capsys):
    def error(path):
        return fails(capsys, path, tmp_path / 'x.ckpt')

    assert error(tmp_path / 'absent.h5').endswith('absent.h5: no such file\n')
    assert error(tmp_path).endswith('no such file\n')
    for content in (b'', b'no HDF5', b'\x89HDF\r\n\x1a\n cut off'):
        (tmp_path / 'w.h5').write_bytes(content)
        assert 'w.h5 is not an HDF5 file, or is damaged' in error(tmp_path / 'w.h5')
    with h5py.File(str(tmp_path / 'pandas.h5'), 'w') as file:
        file['table'] = np.ones(3)
    expected = 'pandas.h5 does not hold Keras weights: it has no attribute layer_names; found table'
    assert expected in error(tmp_path / 'pandas.h5')
    with h5py.File(str(tmp_path / 'k3.weights.h5'), 'w') as file:
        file['layers/conv2d/vars/0'] = np.ones(3)
    expected = 'Keras 3 wrote it: load it there and model.save()'
    assert expected in error(tmp_path / 'k3.weights.h5')


def test_damaged_files_are_one_line(tmp_path, small):
    path = small('weights').path
    whole = path.read_bytes()
    for length in (len(whole) // 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match='weights.h5 is not an HDF5 file, or is damaged: '):
            read(path)
    path.write_bytes(whole)
    with h5py.File(str(path), 'r+') as file:
        del file['top/top/kernel:0']
    with pytest.raises(UserError, match='weights.h5 is not an HDF5 file, or is damaged: .*kernel'):
        read(path)
    with h5py.File(str(path), 'r+') as file:
        del file['top']
    with pytest.raises(UserError, match='weights.h5 is not an HDF5 file, or is damaged: .*top'):
        read(path)


def test_a_file_that_crashes_the_library_is_one_line(tmp_path, monkeypatch):
    """Some damaged files do; here any file does."""
    (tmp_path / 'x.h5').write_bytes(b'')
    crash = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    monkeypatch.setattr(keras.h5py, 'File', crash)
    with pytest.raises(UserError, match='x.h5 is damaged: the HDF5 library crashes on it'):
        read(tmp_path / 'x.h5')
