"""A fourth model from records to an offline score, with nothing but its own folder, lenet_tf: the
example of CONTRIBUTING.md.
"""

import json
import os
import pathlib
import re

import pytest
import tensorflow as tf

from common import run
from offline_inference import run as offline

HERE = pathlib.Path(__file__).resolve().parent
SIM = HERE.parent / 'ascend_sim'
RECIPE = HERE / 'lenet_tf' / 'configs' / 'lenet_digits.yaml'


@pytest.fixture(scope='module')
def lenet():
    """The module lenet_tf.task, with its folder on Python's path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        from lenet_tf import prepare_digits, task

        yield task.TASK, prepare_digits


@pytest.fixture(scope='module')
def trained(lenet, tmp_path_factory):
    """(data folder, run folder) after training by the recipe."""
    task, prepare_digits = lenet
    data, folder = tmp_path_factory.mktemp('data'), tmp_path_factory.mktemp('run')
    prepare_digits.main(data)
    with tf.Graph().as_default():
        run.main(task, words(config=RECIPE, data_path=data, output_path=folder, do_train=True))
    return data, folder


def words(**flags):
    return [str(word) for name, value in flags.items() for word in ('--' + name, value)]


def test_recipe_reaches_its_figure(trained):
    wanted = float(re.search('top-1 >= ([0-9.]+)', RECIPE.read_text()).group(1))
    assert json.loads((trained[1] / 'eval.json').read_text())['top1'] >= wanted
    assert 'top-1' in (trained[1] / 'report.md').read_text()


def test_evaluation_from_the_final_checkpoint_gives_the_same(trained, lenet, tmp_path):
    data, folder = trained
    flags = words(
        config=RECIPE, data_path=data, output_path=tmp_path, model_path=folder / 'lenet.ckpt'
    )
    with tf.Graph().as_default():
        run.main(lenet[0], flags)
    found, expected = (json.loads((path / 'eval.json').read_text()) for path in (tmp_path, folder))
    assert (found['images'], found['top1']) == (360, expected['top1'])


@pytest.mark.parametrize('backend, dtype', [('onnx', 'float32'), ('msame', 'uint8')])
def test_exported_model_predicts_the_same(trained, tmp_path, monkeypatch, backend, dtype):
    data, folder = trained
    monkeypatch.setenv('PATH', '%s:%s' % (SIM / 'bin', os.environ['PATH']))
    monkeypatch.setenv('PYTHONPATH', '%s:%s' % (HERE.parent.parent, SIM / 'python'))
    offline.main(
        words(
            model='lenet',
            config=RECIPE,
            model_path=folder / 'lenet.ckpt',
            data_path=data,
            output=tmp_path,
            backend=backend,
            input_dtype=dtype,
        )
    )
    (result,) = json.loads((tmp_path / 'offline.json').read_text())['results'].values()
    assert result['images'] == 360 and result['equal_predictions'] >= result['least_equal']
