"""The average of checkpoints, by the command and by the function."""

import numpy as np
import pytest
from toy_checkpoints import OTHER_HEAD, SHAPES, saved, values

from common import checkpoint as checkpoint_command
from common.checkpoints import checkpoint
from common.checkpoints.checkpoint import Checkpoint
from common.errors import UserError


def average(folder, last, output):
    words = ['average', folder, '--last', last, '--output', output]
    checkpoint_command.main([str(word) for word in words])


@pytest.fixture
def refusal(capsys):
    """refusal(folder, last, output): what the command says as it ends with status 2."""

    def call(*values):
        with pytest.raises(SystemExit) as stop:
            average(*values)
        assert stop.value.code == 2
        return capsys.readouterr().err

    return call


@pytest.mark.parametrize('last', [1, 2, 3])
def test_average_of_the_last(last, run_folder, capsys):
    folder, tensors = run_folder
    average(folder, last, folder / 'average' / 'a.ckpt')
    found = Checkpoint(str(folder / 'average' / 'a.ckpt'))
    assert found.step == 3 and found.read('counts').tolist() == [3, -3]
    for name in SHAPES:
        mean = np.mean([t[name].astype(np.float64) for t in tensors[-last:]], axis=0)
        np.testing.assert_allclose(found.read(name), mean, rtol=1e-6, atol=1e-7)
        assert found.read(name).dtype == np.float32
    assert 'model.ckpt-3' in capsys.readouterr().out


def test_average_is_not_rounded_on_the_way(tmp_path):
    for number, value in enumerate([2.0**24, 1.0, 1.0, 1.0]):
        checkpoint.write(str(tmp_path / str(number)), {'w': np.float32([value])})
    checkpoint.average([str(tmp_path / str(number)) for number in range(4)], str(tmp_path / 'mean'))
    assert Checkpoint(str(tmp_path / 'mean')).read('w')[0] == np.float32((2**24 + 3) / 4) != 2**22


@pytest.mark.parametrize(
    'last, said',
    [(4, 'has 3 checkpoints'), (0, 'whole number, 1 or more'), (-1, 'whole number, 1 or more')],
)
def test_average_of_more_than_there_are(last, said, run_folder, refusal):
    folder, _ = run_folder
    assert said in refusal(folder, last, folder / 'a.ckpt')
    assert not list(folder.glob('a.ckpt*'))


def test_average_leaves_the_initial_weights_out(run_folder, refusal, capsys):
    folder, _ = run_folder
    checkpoint.move(folder / 'model.ckpt-1', folder / 'model.ckpt-0')
    said = refusal(folder, 3, folder / 'a.ckpt')
    assert 'has 2 checkpoints of a trained network' in said
    average(folder, 2, folder / 'a.ckpt')
    assert 'model.ckpt-2, model.ckpt-3' in capsys.readouterr().out


def test_average_never_becomes_a_checkpoint_of_the_run(run_folder, refusal):
    folder, _ = run_folder
    assert 'a run would resume from it' in refusal(folder, 1, folder / 'model.ckpt-9')
    assert not list(folder.glob('model.ckpt-9*'))
    assert 'is a folder; name a checkpoint in it' in refusal(folder, 1, folder)


def test_average_of_an_empty_folder(tmp_path, capsys):
    with pytest.raises(SystemExit):
        checkpoint_command.main(['average', str(tmp_path), '--output', str(tmp_path / 'a.ckpt')])
    assert 'has 0 checkpoints' in capsys.readouterr().err


def test_average_of_different_runs(tmp_path):
    paths = [saved(tmp_path / 'a', values()), saved(tmp_path / 'b', values(OTHER_HEAD))]
    with pytest.raises(UserError, match='a and .*b are not of the same run'):
        checkpoint.average(paths, str(tmp_path / 'c'))


def test_average_with_a_damaged_one(run_folder, refusal):
    folder, _ = run_folder
    path = folder / 'model.ckpt-2.data-00000-of-00001'
    path.write_bytes(path.read_bytes()[:40])
    assert 'damaged' in refusal(folder, 3, folder / 'a.ckpt')
    assert not list(folder.glob('a.ckpt*'))
