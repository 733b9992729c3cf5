"""prepare_cifar on archives that are damaged, others, or programs."""

import gzip
import hashlib
import os
import pickle

import numpy as np
import pytest
from cifar_archives import FOLDERS, NAMES, dump, official, packed, refused, run, unpacked

# Archives as a whole


def test_wrong_md5(tmp_path, capsys):
    archive = packed(tmp_path, 'cifar10', 'python')
    message = refused(capsys, 'cifar10', archive, tmp_path / 'out')
    found = hashlib.md5(archive.read_bytes()).hexdigest()
    for part in (str(archive), found, 'c58f30108f718f92721af3b95e74349a', '--no_verify'):
        assert part in message


def test_the_other_dataset(small_is_official, tmp_path, capsys):
    message = refused(capsys, 'cifar100', small_is_official, tmp_path / 'out')
    assert 'holds cifar-10-batches-py, --dataset says cifar100' in message
    archive = packed(tmp_path, 'cifar10', 'binary', {'x': b''})
    message = refused(capsys, 'cifar10', archive, tmp_path / 'out', '--no_verify')
    assert 'no CIFAR archive' in message


def test_count_is_verified(tmp_path, capsys):
    folder = unpacked(tmp_path, 'cifar100', 'binary')
    message = refused(capsys, 'cifar100', folder, tmp_path / 'out')
    assert 'found 15 train images, expected 50000' in message and '--no_verify' in message


def test_sources_that_are_none(tmp_path, capsys):
    out = tmp_path / 'out'
    assert 'no such file' in refused(capsys, 'cifar10', tmp_path / 'absent', out)
    assert '--source is missing' in refused(capsys, 'cifar10', None, out)
    (tmp_path / 'empty').mkdir()
    message = refused(capsys, 'cifar100', tmp_path / 'empty', out)
    assert 'cifar-100-python.tar.gz' in message and 'cifar-100-binary' in message
    assert 'cifar-10-' not in message
    with pytest.raises(SystemExit):
        run('cifar', None, out)
    assert 'legal: cifar10, cifar100, digits' in capsys.readouterr().err


def changed_header(whole):
    """A damaged header ends a tar archive without an error of tarfile."""
    content = bytearray(gzip.decompress(whole))
    content[content.index(b'cifar-10-batches-bin/data_batch_3.bin')] ^= 0xFF
    return gzip.compress(bytes(content))


def changed_checksum(whole):
    """gzip's crc32 is the last but four bytes."""
    return whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]


@pytest.mark.parametrize(
    'damaged, why',
    [
        (changed_header, '(damaged or cut off at byte'),
        (changed_checksum, '(CRC check failed'),
        (lambda whole: whole[: len(whole) // 2], ''),
        (lambda whole: b'<html>not found</html>', ''),
        (lambda whole: b'', ''),
    ],
)
def test_an_archive_that_is_not_whole(tmp_path, capsys, damaged, why):
    archive = packed(tmp_path, 'cifar10', 'binary')
    archive.write_bytes(damaged(archive.read_bytes()))
    message = refused(capsys, 'cifar10', archive, tmp_path / 'out', '--no_verify')
    assert 'not a readable tar archive ' + why in message


# Files in it


def rows(count, length=3072, dtype=np.uint8, **content):
    return dump({'data': np.zeros((count, length), dtype), **content})


@pytest.mark.parametrize(
    'form, name, change, part',
    [
        ('binary', 'test_batch.bin', lambda c: c[:-1], 'not a multiple of the 3073'),
        (
            'binary',
            'data_batch_2.bin',
            lambda c: b'\x0a' + c[1:],
            'found label 10, legal are 0 to 9',
        ),
        ('binary', 'batches.meta.txt', lambda c: b'cat\ndog\n', 'found 2 class names, expected 10'),
        ('python', 'test_batch', lambda c: c[:-20], 'not a CIFAR file'),
        ('python', 'test_batch', lambda c: b'', 'not a CIFAR file'),
        ('python', 'test_batch', lambda c: dump([1, 2]), 'not a CIFAR file'),
        ('python', 'test_batch', lambda c: dump({'data': 1}), "lacks the key 'labels'"),
        ('python', 'test_batch', lambda c: rows(2, 3071, labels=[1, 2]), '(2, 3071)'),
        ('python', 'test_batch', lambda c: rows(2, 3072, np.float32, labels=[1, 2]), 'float32'),
        ('python', 'test_batch', lambda c: rows(2, labels=[1]), '1 labels'),
        ('python', 'test_batch', lambda c: rows(2, labels=[0, -1]), 'found label -1'),
        ('python', 'test_batch', lambda c: rows(1, labels=['cat']), 'found label'),
        ('python', 'batches.meta', lambda c: dump({'num_vis': 3072}), 'found 0 class names'),
    ],
)
def test_damaged_content(tmp_path, capsys, form, name, change, part):
    contents = official('cifar10', form)
    contents[name] = change(contents[name])
    archive = packed(tmp_path, 'cifar10', form, contents)
    message = refused(capsys, 'cifar10', archive, tmp_path / 'out', '--no_verify')
    assert part in message and str(archive) in message and name in message


@pytest.mark.parametrize('dataset, form', FOLDERS)
def test_damage_anywhere_is_one_line(tmp_path, capsys, mutated, dataset, form):
    """Success, or an error that names the file."""
    random, contents = np.random.RandomState(1), official(dataset, form)

    def attempt(source, output):
        try:
            run(dataset, source, tmp_path / output, '--no_verify', '--shards', '1')
        except SystemExit as error:
            assert error.code == 2

    for case in range(25):
        name = sorted(contents)[random.randint(len(contents))]
        damaged = {**contents, name: mutated(contents[name], random)}
        attempt(unpacked(tmp_path / str(case), dataset, form, damaged), 'out%d' % case)
    archive = packed(tmp_path, dataset, form)
    whole = gzip.decompress(archive.read_bytes())
    for case in range(25):
        archive.write_bytes(gzip.compress(mutated(whole, random), 1))
        attempt(archive, 'packed%d' % case)
    assert 'Traceback' not in capsys.readouterr().err


# Programs


class Evil:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


def refused_with(tmp_path, capsys, file, content):
    """The message about an archive with this pickle."""
    contents = {**official('cifar10', 'python'), file: pickle.dumps(content, protocol=2)}
    folder = unpacked(tmp_path, 'cifar10', 'python', contents)
    return refused(capsys, 'cifar10', folder, tmp_path / 'out', '--no_verify')


@pytest.mark.parametrize(
    'call',
    [(os.mkdir, ('owned',)), (eval, ('__import__("os").mkdir("owned")',)), (np.load, ('owned',))],
)
def test_an_archive_cannot_run_code(tmp_path, capsys, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    meta = {b'label_names': NAMES['cifar10'], b'more': Evil(call)}
    message = refused_with(tmp_path, capsys, 'batches.meta', meta)
    assert 'it asks for' in message and not (tmp_path / 'owned').exists()


def test_an_archive_cannot_hold_objects(tmp_path, capsys):
    batch = {b'data': np.array([None, 'x'], object), b'labels': [0, 1]}
    assert 'it holds an array of' in refused_with(tmp_path, capsys, 'test_batch', batch)
