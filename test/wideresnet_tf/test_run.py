"""The published port's commands, unchanged, as processes in a folder that looks like the port's;
and its checkpoints.
"""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml

from common.checkpoints import checkpoint
from wideresnet_tf import model_port
from wideresnet_tf.config import WideResNetConfig

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DATA = ROOT / 'test' / 'data'
LINE = r'wideresnet eval  loss=\d+\.\d{5}   acc=\d\.\d{4}'


@pytest.fixture(scope='module')
def port(tmp_path_factory, port_records, images_and_labels, port_checkpoint):
    """A folder like the port's wideresnet_tf/: model/, train_data/, test_data/ (records of 100
    classes).
    """
    folder = tmp_path_factory.mktemp('port')
    for name, count in (('train_data', 40), ('test_data', 21)):
        images, _ = images_and_labels(count, seed=count)
        labels = np.random.RandomState(count).randint(0, 100, count)
        port_records(folder / name / (name + '.tfrecord'), images, labels, labels // 5)
    (folder / 'run_wideresnet.py').symlink_to(ROOT / 'wideresnet_tf' / 'run_wideresnet.py')
    (folder / 'model').mkdir()
    for path in port_checkpoint.parent.iterdir():
        shutil.copy(str(path), str(folder / 'model'))
    return folder


@pytest.fixture(scope='module')
def port_checkpoint(tmp_path_factory):
    """A checkpoint as the port saves it: every variable of its graph (here WRN-10-1) and
    MomentumW's slots, no global step.
    """
    with np.load(str(DATA / 'wrn_port.npz')) as archive:
        tensors = {
            name: archive[name].astype(np.float32)
            for name in archive.files
            if name not in ('images', 'logits')
        }
    path = tmp_path_factory.mktemp('checkpoint') / 'wideresnet.ckpt'
    slots = {
        name + '/Momentum': np.zeros_like(value)
        for name, value in tensors.items()
        if 'moving_' not in name
    }
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {name: tf.Variable(value) for name, value in dict(tensors, **slots).items()}
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, str(path))
    return path


@pytest.fixture(scope='module')
def trained(port, start):
    """The published training command, with its flags at a small size: standard output."""
    process = start(
        '--model_path',
        './model/wideresnet.ckpt',
        '--data_path',
        './train_data',
        '--output_path',
        './model_save',
        '--depths',
        '10',
        '--ks',
        '1',
        '--do_train',
        'True',
        '--image_num',
        '32',
        '--batch_size',
        '8',
        '--epoch',
        '2',
        '--learning_rate',
        '0.00016',
        cwd=port,
        script='run_wideresnet.py',
    )
    status, out, error = process.finish()
    assert status == 0, out + error
    return out


@pytest.mark.slow
def test_training_command_leaves_the_final_checkpoint(trained, port, weights, port_checkpoint):
    folder = port / 'model_save'
    assert re.search(r'^\./model/wideresnet\.ckpt: restored (\d+) of \1 variables', trained, re.M)
    final, before = weights(folder / 'wideresnet.ckpt'), weights(port_checkpoint)
    assert final.pop('global_step') == 8  # 2 epochs of 32 images in batches of 8
    assert set(final) == {name for name in before if not name.endswith('/Momentum')}
    assert {name: value.shape for name, value in final.items()} == {
        name: before[name].shape for name in final
    }
    # Fine-tuning: near the checkpoint, but not it.
    assert 0 < np.abs(final['output/kernel'] - before['output/kernel']).max() < 0.1
    saved = yaml.safe_load((folder / 'config.yaml').read_text())
    assert {
        key: saved[key]
        for key in (
            'variant',
            'depth',
            'widen_factor',
            'image_num',
            'batch_size',
            'epochs',
            'learning_rate',
            'optimizer',
            'weight_decay',
            'dropout_rate',
            'normalization',
            'brightness',
        )
    } == dict(
        variant='port',
        depth=10,
        widen_factor=1,
        image_num=32,
        batch_size=8,
        epochs=2.0,
        learning_rate=0.00016,
        optimizer='momentumw',
        weight_decay=5e-6,
        dropout_rate=0.3,
        normalization='per_image',
        brightness=63.0,
    )
    assert not (
        folder / 'eval.json'
    ).exists()  # the records are not split: there is nothing to evaluate


@pytest.mark.slow
def test_evaluation_command_prints_the_ports_line(trained, port, start):
    process = start(
        '--model_path',
        './model_save/wideresnet.ckpt',
        '--data_path',
        './test_data',
        '--output_path',
        './model_save',
        '--depths',
        '10',
        '--ks',
        '1',
        '--do_train',
        'False',
        '--image_num',
        '20',
        '--batch_size',
        '8',
        cwd=port,
        script='run_wideresnet.py',
    )
    status, out, error = process.finish()
    assert status == 0, out + error
    (line,) = re.findall('^%s$' % LINE, out, re.M)
    result = json.loads((port / 'model_save' / 'eval.json').read_text())
    assert set(result) >= {
        'model',
        'checkpoint',
        'step',
        'images',
        'loss',
        'top1',
        'top5',
        'images_per_second',
    }
    assert (result['model'], result['step'], result['images']) == ('wideresnet', 8, 20)
    assert line == 'wideresnet eval  loss=%.5f   acc=%.4f' % (result['loss'], result['top1'])
    assert pathlib.Path(result['checkpoint']) == port / 'model_save' / 'wideresnet.ckpt'

    # Its records, standardised by TensorFlow, through its graph.
    records = tf.compat.v1.io.tf_record_iterator(str(port / 'test_data' / 'test_data.tfrecord'))
    examples = [
        tf.train.Example.FromString(record).features.feature for record in list(records)[:20]
    ]
    images = np.stack(
        [
            np.frombuffer(example['image'].bytes_list.value[0], np.uint8).reshape(32, 32, 3)
            for example in examples
        ]
    )
    labels = np.array([example['fine_label'].int64_list.value[0] for example in examples])
    with tf.Graph().as_default(), tf.Session() as session:
        standard = tf.map_fn(tf.image.per_image_standardization, tf.constant(images, tf.float32))
        logits = model_port.build(standard, WideResNetConfig(depth=10, widen_factor=1))
        tf.train.Saver().restore(session, str(port / 'model_save' / 'wideresnet.ckpt'))
        logits = session.run(logits).astype(np.float64)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(20), labels]
    assert result['loss'] == pytest.approx(losses.mean(), rel=1e-4)
    assert result['top1'] == (logits.argmax(axis=1) == labels).mean()


def test_a_checkpoint_of_the_port_is_evaluated(run, port, port_checkpoint, tmp_path, capsys):
    run(
        '--model_path',
        port_checkpoint,
        '--data_path',
        port / 'test_data',
        '--output_path',
        tmp_path,
        '--depths',
        '10',
        '--ks',
        '1',
    )
    assert re.search('^%s$' % LINE, capsys.readouterr().out, re.M)
    result = json.loads((tmp_path / 'eval.json').read_text())
    assert result['step'] is None and result['images'] == 21


@pytest.mark.parametrize(
    'flags, message',
    [
        (
            ['--depths', '16', '--ks', '1'],
            'it is a WRN-10-1 with 100 classes .*use --variant port --depth 10 --widen_factor 1',
        ),
        (['--depths', '10', '--ks', '1', '--variant', 'paper'], 'use --variant port'),
        (['--depths', '10', '--ks', '1', '--dephts', '10'], "did you mean 'depths'"),
    ],
)
def test_what_a_checkpoint_of_the_port_needs_is_said(
    flags, message, run, port, port_checkpoint, capsys
):
    with pytest.raises(SystemExit) as stop:
        run('--model_path', port_checkpoint, '--data_path', port / 'test_data', *flags)
    assert stop.value.code == 2 and re.search(message, capsys.readouterr().err)


@pytest.mark.slow
def test_the_published_checkpoint_restores_completely(run, tmp_path, port):
    """Made from the published list of variables: WRN-28-10, 158 variables; its weights are such
    that the answer is known.

    All kernels and scales are 0 but the classifier's bias: whatever the image, logits are the bias.
    """
    variables = json.loads((DATA / 'wrn_port_variables.json').read_text())
    bias = np.random.RandomState(0).normal(size=100).astype(np.float32)
    tensors = {name: np.zeros(shape, np.float32) for name, shape, _ in variables}
    tensors.update(
        {
            name: np.ones(shape, np.float32)
            for name, shape, _ in variables
            if name.endswith('moving_variance')
        },
        **{'output/bias': bias},
    )
    checkpoint.write(str(tmp_path / 'wideresnet.ckpt'), tensors)
    run(
        '--model_path',
        tmp_path / 'wideresnet.ckpt',
        '--data_path',
        port / 'test_data',
        '--output_path',
        tmp_path,
        '--image_num',
        '2',
        '--batch_size',
        '2',
    )
    result = json.loads((tmp_path / 'eval.json').read_text())
    example = [
        tf.train.Example.FromString(record)
        for record in tf.compat.v1.io.tf_record_iterator(
            str(port / 'test_data' / 'test_data.tfrecord')
        )
    ]
    labels = [e.features.feature['fine_label'].int64_list.value[0] for e in example[:2]]
    assert result['loss'] == pytest.approx(
        np.log(np.exp(bias.astype(np.float64)).sum()) - bias[labels].mean(), rel=1e-5
    )
    assert len(variables) == 158
