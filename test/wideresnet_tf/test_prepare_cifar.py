"""wideresnet_tf.prepare_cifar on small archives in the official formats, read back with
TensorFlow.
"""

import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from cifar_archives import FOLDERS, check, official, packed, read, refused, run, truth, unpacked
from preparing import contents, described, stamps
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

from wideresnet_tf import prepare_cifar

ROOT = pathlib.Path(prepare_cifar.__file__).resolve().parents[1]


# The four official forms


@pytest.mark.parametrize('dataset, form', FOLDERS)
def test_packed_and_unpacked(tmp_path, dataset, form):
    archive = packed(tmp_path / 'packed', dataset, form)
    folder = unpacked(tmp_path / 'unpacked', dataset, form)
    for i, source in enumerate([archive, archive.parent, folder, folder.parent]):
        run(dataset, source, tmp_path / str(i), '--no_verify', '--shards', '3')
        check(tmp_path / str(i), dataset)
    assert len(list((tmp_path / '0' / 'train').glob('*.tfrecord'))) == 3


@pytest.mark.parametrize('dataset', ['cifar10', 'cifar100'])
def test_python_and_binary_give_the_same_bytes(tmp_path, dataset):
    found = []
    for form in ('python', 'binary'):
        archive = packed(tmp_path, dataset, form)
        run(dataset, archive, tmp_path / form, '--no_verify', '--shards', '2')
        found.append(contents(tmp_path / form))
    assert found[0] == found[1] and len(found[0]) == 2 * 4


@pytest.mark.parametrize('dataset', ['cifar10', 'cifar100'])
def test_archives_pickled_by_python_3(tmp_path, dataset):
    """Protocol 2 with bytes keys, the array in Fortran order, labels as an array."""

    def dumps(content):
        changed = {key.encode(): value for key, value in content.items()}
        for key, value in changed.items():
            if key.endswith(b'labels'):
                changed[key] = np.array(value)
            elif key == b'data':
                changed[key] = np.asfortranarray(value)
        return pickle.dumps(changed, protocol=2)

    folder = unpacked(tmp_path, dataset, 'python', official(dataset, 'python', dumps))
    run(dataset, folder, tmp_path / 'out', '--no_verify', '--shards', '1')
    check(tmp_path / 'out', dataset)


def test_verified_archive(small_is_official, tmp_path):
    run('cifar10', small_is_official, tmp_path / 'out', '--shards', '1')
    check(tmp_path / 'out', 'cifar10')


def test_missing_files(tmp_path, capsys):
    folder = unpacked(tmp_path, 'cifar10', 'binary')
    (folder / 'data_batch_3.bin').unlink()
    for flags in ([], ['--no_verify']):
        message = refused(capsys, 'cifar10', folder, tmp_path / 'out', *flags)
        assert 'lacks data_batch_3.bin' in message and '--allow_partial' in message
    run('cifar10', folder, tmp_path / 'out', '--allow_partial', '--shards', '1')
    warning = capsys.readouterr().err
    assert 'warning: %s: lacks data_batch_3.bin' % folder in warning
    assert 'found 12 train images, expected 50000' in warning
    rest = np.r_[0:6, 9:15]  # all but the third of five files
    for found, expected in zip(read(tmp_path / 'out' / 'train'), truth('cifar10', 'train')):
        assert np.array_equal(found, expected[rest])
    (folder / 'test_batch.bin').unlink()
    message = refused(capsys, 'cifar10', folder, tmp_path / 'other', '--allow_partial')
    assert 'lacks data_batch_3.bin, test_batch.bin' in message


# A finished output


def test_finished_output(small_is_official, tmp_path, capsys):
    out = tmp_path / 'out'
    run('cifar10', small_is_official, out, '--shards', '2')
    before = stamps(out)
    small_is_official.unlink()  # not even needed
    capsys.readouterr()
    run('cifar10', small_is_official, out, '--shards', '2')
    assert 'already there' in capsys.readouterr().err and stamps(out) == before
    message = refused(capsys, 'cifar100', small_is_official, out, '--no_verify')
    assert 'found 15 records of cifar10' in message


def test_interrupted_output_is_completed(small_is_official, tmp_path):
    out = tmp_path / 'out'
    run('cifar10', small_is_official, out, '--shards', '2')
    for file in (out / 'test').iterdir():
        file.unlink()
    run('cifar10', small_is_official, out, '--shards', '2')
    check(out, 'cifar10')


def test_output_that_is_not_ours(small_is_official, tmp_path, capsys):
    (tmp_path / 'out' / 'train').mkdir(parents=True)
    (tmp_path / 'out' / 'train' / 'thesis.doc').write_text('precious')
    assert 'thesis.doc' in refused(capsys, 'cifar10', small_is_official, tmp_path / 'out')


def test_an_unverified_part_is_not_the_dataset(tmp_path, capsys):
    folder, out = unpacked(tmp_path, 'cifar10', 'binary'), tmp_path / 'out'
    for _ in range(2):
        run('cifar10', folder, out, '--no_verify', '--shards', '1')
    message = refused(capsys, 'cifar10', folder, out)
    assert 'found 15 records of cifar10, expected 50000 of cifar10' in message


# Digits


def test_digits(tmp_path):
    """Every digit once, recognisable, in a fair split; the same bytes if it is started in its own
    folder, without the product on Python's path.
    """
    run('digits', None, tmp_path / 'a')
    words = [sys.executable, 'prepare_cifar.py', '--dataset', 'digits', '--output', tmp_path / 'b']
    environment = dict(os.environ, PYTHONPATH='')
    subprocess.run(words, cwd=str(ROOT / 'wideresnet_tf'), env=environment, check=True)
    assert contents(tmp_path / 'a') == contents(tmp_path / 'b')
    digits, seen = load_digits(), []
    linear = zoom(
        digits.images * (255 / 16), (1, 4, 4), order=1, mode='nearest', grid_mode=True
    ).reshape(1797, 1024)
    for split, count in (('train', 1437), ('test', 360)):
        images, fine, coarse = read(tmp_path / 'a' / split)
        assert images.shape == (count, 32, 32, 3) and not coarse.any()
        assert (images == images[..., :1]).all()
        share = np.bincount(digits.target) * count / 1797
        assert np.abs(np.bincount(fine) - share).max() <= 1
        # SciPy's enlargement (linear, about the same pixel centres) is close: nearest neighbours
        # are the digits themselves.
        found = images[..., 0].reshape(count, 1024).astype(np.float64)
        nearest = ((linear**2).sum(1)[None] - 2 * found @ linear.T).argmin(axis=1)
        assert np.array_equal(digits.target[nearest], fine)
        assert np.abs(found - linear[nearest]).mean() < 10
        seen += nearest.tolist()
        metadata = described(tmp_path / 'a' / split)
        assert metadata['name'] == 'digits' and metadata['classes'] == [str(i) for i in range(10)]
    assert sorted(seen) == list(range(1797))
