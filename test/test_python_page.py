"""PYTHON.md: its code runs as written, on small networks of random weights."""

import pathlib
import re

import cv2
import numpy as np
import pytest
import tensorflow as tf
import yaml

from common import models

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODE = re.findall(r'```python\n(.*?)```', (ROOT / 'PYTHON.md').read_text(), re.S)


@pytest.fixture
def network(tmp_path, monkeypatch):
    """network(name, folder, field=value, ...): a checkpoint and its configuration in a folder."""
    monkeypatch.chdir(tmp_path)

    def make(name, folder, **fields):
        folder = pathlib.Path('runs', folder)
        folder.mkdir(parents=True)
        (folder / 'config.yaml').write_text(yaml.safe_dump(dict(fields, model=name)))
        task, cfg = models.configure(name, ['--config', str(folder / 'config.yaml')])
        with tf.Graph().as_default(), tf.Session() as session:
            task.build(tf.zeros((1,) + cfg.input_shape), cfg)
            session.run(tf.global_variables_initializer())
            path = str(folder / task.final_checkpoint)
            tf.train.Saver().save(session, path, write_meta_graph=False)

    return make


def draw(*names, size):
    for name in names:
        cv2.imwrite(name, np.random.RandomState(0).randint(255, size=size + (3,)).astype(np.uint8))


def test_classification(network, capsys):
    fields = dict(depth=10, widen_factor=1, num_classes=10, normalization='half')
    network('wideresnet', 'digits', variant='paper', device='cpu', **fields)
    draw('one.png', 'two.png', 'three.png', size=(40, 40))
    exec(CODE[0], {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[::6] == ['one.png', 'two.png', 'three.png'] and len(printed) == 18


def test_segmentation(network):
    sizes = dict(image_height=64, image_width=96, crop_height=48, crop_width=48)
    network('resnest', 'scenes', depth=14, width=1 / 16, device='cpu', **sizes)
    draw('street.png', size=(100, 150))
    exec(CODE[1], {})
    assert cv2.imread('overlay.png').shape == (64, 96, 3)


def test_the_modules_and_names_exist():
    for line in re.findall(r'^\| (`common.*) \|', (ROOT / 'PYTHON.md').read_text(), re.M):
        first, names = line.split(' | ')
        modules = re.findall(r'`([\w.]+)`', first)
        for module in modules:
            module = module if module.startswith('common') else 'common.reporting.' + module
            found = __import__(module, fromlist=['x'])
            for name in re.findall(r'`(\w+)[`(]', names):
                assert hasattr(found, name), (module, name)
