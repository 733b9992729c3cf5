"""train_1p.sh, train_8p.sh and test_1p.sh of the models."""

import importlib
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from common.configuration import config

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def house(tmp_path):
    """A copy of the launcher in a folder whose name has a blank, with a model that prints its
    arguments.
    """
    home = tmp_path / 'a house'
    for name in ('hccl', 'common/ascend'):
        shutil.copytree(
            str(ROOT / name), str(home / name), ignore=shutil.ignore_patterns('__pycache__')
        )
    for name in ('__init__', 'errors', 'files', 'signals'):
        shutil.copy(str(ROOT / 'common' / (name + '.py')), str(home / 'common'))
    (home / 'wideresnet_tf').mkdir()
    (home / 'wideresnet_tf' / 'run_wideresnet.py').write_text('import sys; print(sys.argv[1:])')
    (tmp_path / 'elsewhere').mkdir()

    def run(script, *words, **variables):
        shutil.copy(str(ROOT / 'wideresnet_tf' / script), str(home / 'wideresnet_tf' / script))
        return subprocess.check_output(
            [str(home / 'wideresnet_tf' / script), *words],
            cwd=str(tmp_path / 'elsewhere'),
            env={'PATH': os.environ['PATH'], **variables},
        ).decode()

    return run


@pytest.mark.parametrize(
    'script, training', [('train_1p.sh', 'True'), ('train_8p.sh', 'True'), ('test_1p.sh', 'False')]
)
def test_scripts_pass_everything_on_from_any_folder(house, tmp_path, script, training):
    flags = ['--data_path', 'D', '--device', 'cpu', '--output_path', 'O']
    out = house(script, 'my recipe.yaml', *flags, DEVICES='0')
    assert str(['--do_train', training, '--config', 'my recipe.yaml'] + flags) in out
    assert (tmp_path / 'elsewhere' / 'O' / 'logs' / 'rank_0.log').exists()


def test_scripts_without_a_recipe_leave_it_to_the_model(house):
    assert "['--do_train', 'False', '--batch_size', '4']" in house(
        'test_1p.sh', '--batch_size', '4'
    )


def test_scripts_without_arguments_use_the_folders_of_the_port(house):
    folders = ['--model_path', 'model/wideresnet.ckpt', '--data_path', 'train_data']
    words = ['--do_train', 'True', *folders, '--output_path', 'model_save']
    assert str(words) in house('train_1p.sh')
    folders = ['--model_path', 'model_save/wideresnet.ckpt', '--data_path', 'test_data']
    assert str(['--do_train', 'False', *folders, '--batch_size', '100']) in house('test_1p.sh')


@pytest.mark.parametrize('model', ['wideresnet', 'xception', 'resnest'])
@pytest.mark.parametrize(
    'script, words',
    [('train_1p.sh', 'train 0'), ('train_8p.sh', 'train 0-7'), ('test_1p.sh', 'test 0')],
)
def test_scripts_of_every_model(model, script, words):
    path = ROOT / (model + '_tf') / script
    assert os.access(str(path), os.X_OK) and ' %s %s "$@"' % (model, words) in path.read_text()


@pytest.mark.parametrize('model', ['wideresnet', 'xception', 'resnest'])
@pytest.mark.parametrize('action', ['train', 'test'])
def test_the_words_for_the_folders_of_the_port_are_flags_of_the_model(model, action):
    script = (ROOT / 'hccl' / 'run_model.sh').read_text().replace('\\\n', ' ')
    words = re.search(r'%s-%s\) +set -- (.*?);;' % (model, action), script).group(1).split()
    task = importlib.import_module(model + '_tf.task').TASK
    cfg = config.parse(task.config, ['--do_train', str(action == 'train')] + words)
    assert cfg.model_path.endswith('.ckpt') and cfg.data_path.startswith(action + '_data')
    assert bool(cfg.output_path) is (action == 'train')
