"""A network that gives NaN: every command names the first image, and no figure is written."""

import numpy as np
import pytest

from common.checkpoints import checkpoint, restore
from offline_inference import bins, freeze, score
from offline_inference import run as offline


@pytest.fixture(scope='module')
def broken(configured, tmp_path_factory):
    """Prefix of a checkpoint that gives NaN for every image, as after a run that diverged."""
    task, cfg = configured()
    random, prefix = np.random.RandomState(0), str(tmp_path_factory.mktemp('broken') / 'nan.ckpt')
    tensors = {
        name: random.uniform(0.1, 0.2, shape).astype(np.float32)
        for name, shape in restore.network_variables(task, cfg).items()
    }
    last = next(name for name in tensors if name.endswith('bias'))
    tensors[last][1] = np.nan
    checkpoint.write(prefix, tensors)
    return prefix


@pytest.fixture
def words(broken, recipe, data):
    return ['--config', recipe(batch_size=8), '--data_path', data, '--model_path', broken]


def test_evaluation(words, data, run, fails, tmp_path):
    text = fails(lambda flags: run(*flags), [*words, '--output_path', tmp_path])
    assert "record 0 of %s/test: the network's output is not finite" % data in text
    assert not list(tmp_path.rglob('*.json'))


def test_predictions(words, run, fails, tmp_path):
    from cv2 import imwrite

    for name in ('a.png', 'b.png'):
        imwrite(str(tmp_path / name), np.zeros((32, 32, 3), np.uint8))
    flags = ['--predict', tmp_path, *words, '--output_path', tmp_path / 'out']
    text = fails(lambda flags: run(*flags), flags)
    assert "a.png: the network's output is not finite" in text
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('main, output', [(offline.main, 'out'), (freeze.main, 'out.pb')])
def test_export(words, main, output, fails, tmp_path):
    text = fails(main, ['--model', 'wideresnet', *words, '--output', tmp_path / output])
    assert 'record 0 of ' in text and 'not finite' in text
    assert not list(tmp_path.rglob('*.pb')) + list(tmp_path.rglob('*.json'))


def test_scores_of_results(words, broken, fails, tmp_path, capsys):
    common = ['--model', 'wideresnet', *map(str, words[:4])]
    bins.main([*common, '--output', str(tmp_path / 'bins')])
    names = sorted(path.name for path in (tmp_path / 'bins' / 'batches').iterdir())
    for number, name in enumerate(names):
        logits = np.zeros([8, 4], np.float32)
        logits[3, 1] = np.nan if number == 1 else 0
        (tmp_path / 'results').mkdir(exist_ok=True)
        logits.tofile(str(tmp_path / 'results' / name.replace('.bin', '_output_0.bin')))
    flags = ['--bins', tmp_path / 'bins', '--results', tmp_path / 'results']
    assert 'record 11: ' in fails(score.main, [*common, *flags])
    assert 'nan' not in capsys.readouterr().out.lower()
