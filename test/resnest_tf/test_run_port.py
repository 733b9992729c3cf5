"""run_resnest.py with the published port's flags, records and checkpoints."""

import json
import pathlib

import numpy as np
import tensorflow as tf
import yaml
from run_files import evaluation
from small_runs import HEIGHT, WIDTH, call

from common.checkpoints import checkpoint, restore
from common.configuration import config
from resnest_tf import model_port
from resnest_tf.task import TASK

NARROW = '--width %s --optimizer sgd --eval_interval 0' % (1 / 64)


def port_variables():
    """Names of the variables of the published port's checkpoint."""
    stored = pathlib.Path(__file__).resolve().parent.parent / 'data' / 'resnest_port_variables.json'
    return {name for name, _, _ in json.loads(stored.read_text())}


def test_ports_flags_train_its_network(blob_records, tmp_path, monkeypatch):
    monkeypatch.setattr(model_port, '_BLOCKS', model_port._BLOCKS[:4])  # flags are not its depth
    records, folder = blob_records / 'train' / 'cityscapes_train.tfrecords', tmp_path / 'save'
    call(
        '--is_training True --num_class 19 --img_N 9 --img_H 64 --img_W 64 --batch_size 4',
        '--epochs 1 --learning_rate 0.00001',
        NARROW,
        *('--train_data', records, '--model_save_dir', folder / 'resnest.ckpt'),
    )
    saved = yaml.safe_load((folder / 'config.yaml').read_text())
    expected = dict(crop_height=64, crop_width=64, variant='port', loss='focal')
    assert {key: saved[key] for key in expected} == expected
    ours = dict(tf.train.list_variables(str(folder / 'resnest.ckpt')))
    assert ours.pop('global_step') == [] and set(ours) < port_variables()


def test_a_checkpoint_of_the_port_is_evaluated(blob_records, tmp_path, capsys):
    """With all of its variables, also those without effect."""
    cfg = config.parse(TASK.config, ('--is_training True ' + NARROW).split())
    shapes, random = restore.network_variables(TASK, cfg, training=True), np.random.RandomState(0)
    dead = port_variables() - set(shapes)
    assert len(dead) == 80 and set(shapes) < port_variables()
    prefix = tmp_path / 'resnest.ckpt-182'
    shapes.update({name: [3] for name in dead})
    checkpoint.write(
        str(prefix),
        {name: random.uniform(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()},
    )
    records = blob_records / 'val' / 'cityscapes_val.tfrecords'
    call(
        '--is_training False --num_class 19 --img_H %d --img_W %d' % (HEIGHT, WIDTH),
        '--batch_size 1',
        NARROW,
        *('--train_data', records, '--model_path', prefix),
    )
    assert 'miou' in capsys.readouterr().out
    assert evaluation(tmp_path)['images'] == 3

    count = len(shapes) - len(dead)
    match = restore.plan_restore(TASK, cfg, str(prefix), training=True)
    assert 'restored %d of %d variables; dropped: 80 unused' % (count, count) in match.report
