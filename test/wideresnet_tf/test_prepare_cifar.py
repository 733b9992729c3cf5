"""wideresnet_tf.prepare_cifar on small archives in the official formats, read back as the published
port's users read them.
"""

import gzip
import hashlib
import io
import json
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

from common.data import records
from wideresnet_tf import cifar, prepare_cifar

ROOT = pathlib.Path(prepare_cifar.__file__).resolve().parents[1]
TRAIN, TEST = 15, 7
NAMES = {
    'cifar10': [
        'airplane',
        'automobile',
        'bird',
        'cat',
        'deer',
        'dog',
        'frog',
        'horse',
        'ship',
        'truck',
    ],
    'cifar100': ['class_%d' % i for i in range(100)],
}
FORMS = [
    ('cifar10', 'python'),
    ('cifar10', 'binary'),
    ('cifar100', 'python'),
    ('cifar100', 'binary'),
]
FOLDERS = dict(
    zip(
        FORMS,
        ['cifar-10-batches-py', 'cifar-10-batches-bin', 'cifar-100-python', 'cifar-100-binary'],
    )
)


class Python2Pickler(pickle._Pickler):
    """Spells str and bytes as Python 2 did in the official archives (opcode T), which loads as
    bytes keys.
    """

    dispatch = dict(pickle._Pickler.dispatch)

    def save_text(self, text):
        text = text.encode('latin1') if isinstance(text, str) else text
        self.write(b'T' + struct.pack('<i', len(text)) + text)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text


def dump(content):
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue()


def truth(dataset, split):
    """Images uint8 [n, 32, 32, 3], fine and coarse labels [n]: what the archives below hold."""
    count = TRAIN if split == 'train' else TEST
    random = np.random.RandomState(len(dataset) + count)
    images = random.randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    fine = random.randint(0, len(NAMES[dataset]), count)
    fine[:2] = 0, len(NAMES[dataset]) - 1
    return (
        images,
        fine,
        random.randint(0, 20, count) if dataset == 'cifar100' else np.zeros(count, int),
    )


def official(dataset, form, dumps=dump):
    """File name -> content of a small archive, byte for byte in the official layout."""
    contents = {}
    for split in ('train', 'test'):
        images, fine, coarse = truth(dataset, split)
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)  # R, G and B plane
        names = {'train': ['data_batch_%d' % i for i in range(1, 6)], 'test': ['test_batch']}[split]
        names = names if dataset == 'cifar10' else [split]
        for rows, name in zip(np.array_split(np.arange(len(images)), len(names)), names):
            if form == 'binary':
                labels = [coarse, fine] if dataset == 'cifar100' else [fine]
                contents[name + '.bin'] = b''.join(
                    bytes(label[i] for label in labels) + planes[i].tobytes() for i in rows
                )
            else:
                content = {
                    'batch_label': name,
                    'filenames': ['%d.png' % i for i in rows],
                    'data': planes[rows],
                }
                if dataset == 'cifar10':
                    content['labels'] = fine[rows].tolist()
                else:
                    content.update(
                        fine_labels=fine[rows].tolist(), coarse_labels=coarse[rows].tolist()
                    )
                contents[name] = dumps(content)
    lines = ''.join(name + '\n' for name in NAMES[dataset])
    if form == 'binary' and dataset == 'cifar10':
        contents['batches.meta.txt'] = (lines + '\n').encode()
    elif form == 'binary':
        contents['fine_label_names.txt'] = lines.encode()
        contents['coarse_label_names.txt'] = b''.join(b'coarse_%d\n' % i for i in range(20))
    elif dataset == 'cifar10':
        contents['batches.meta'] = dumps(
            {'label_names': NAMES[dataset], 'num_cases_per_batch': 10000, 'num_vis': 3072}
        )
    else:
        contents['meta'] = dumps(
            {
                'fine_label_names': NAMES[dataset],
                'coarse_label_names': ['c%d' % i for i in range(20)],
            }
        )
    contents['readme.html'] = b'<p>hello</p>'
    return contents


def unpacked(path, dataset, form, contents=None):
    folder = path / FOLDERS[dataset, form]
    folder.mkdir(parents=True)
    for name, content in (contents or official(dataset, form)).items():
        (folder / name).write_bytes(content)
    return folder


def packed(path, dataset, form, contents=None):
    path.mkdir(parents=True, exist_ok=True)
    archive = path / ('%s-%s.tar.gz' % (dataset.replace('cifar', 'cifar-'), form))
    with tarfile.open(str(archive), 'w:gz') as tar:
        entry = tarfile.TarInfo(FOLDERS[dataset, form])
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
        for name, content in (contents or official(dataset, form)).items():
            entry = tarfile.TarInfo('%s/%s' % (FOLDERS[dataset, form], name))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive


def run(dataset, source, output, *flags):
    prepare_cifar.main(
        [
            '--dataset',
            dataset,
            '--output',
            str(output),
            *(['--source', str(source)] if source else []),
            *flags,
        ]
    )


def refused(capsys, dataset, source, output, *flags):
    """The one line that the command ends with; nothing may be written."""
    before = sorted(output.rglob('*'))
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(dataset, source, output, *flags)
    lines = capsys.readouterr().err.strip().split('\n')
    assert (
        caught.value.code == 2
        and lines[-1].startswith('error: ')
        and 'Traceback' not in ''.join(lines)
    )
    assert sorted(output.rglob('*')) == before
    return lines[-1]


def port_reads(folder):
    """Images, fine and coarse labels as the published port's parser gets them, files in the order
    of their names.
    """
    files = sorted(str(file) for file in folder.glob('*.tfrecord'))
    with tf.Graph().as_default(), tf.Session() as session:
        parsed = tf.data.TFRecordDataset(files).batch(10000).make_one_shot_iterator().get_next()
        parsed = tf.io.parse_example(
            parsed,
            {
                'image': tf.io.FixedLenFeature([], tf.string),
                'fine_label': tf.io.FixedLenFeature([], tf.int64),
                'coarse_label': tf.io.FixedLenFeature([], tf.int64),
            },
        )
        images = tf.reshape(tf.io.decode_raw(parsed['image'], tf.uint8), [-1, 32, 32, 3])
        return session.run((images, parsed['fine_label'], parsed['coarse_label']))


def check(output, dataset):
    for split in ('train', 'test'):
        for found, expected in zip(port_reads(output / split), truth(dataset, split)):
            assert np.array_equal(found, expected)
        folder = records.Folder.open(output / split)
        assert folder.count == len(expected)
        assert folder.metadata['name'] == dataset and folder.metadata['split'] == split
        assert folder.metadata['classes'] == NAMES[dataset]
        assert set(folder.metadata['schema']) == {'image', 'fine_label', 'coarse_label'}


# ---- the four official forms ---------------------------------------------------------------------


@pytest.mark.parametrize('dataset, form', FORMS)
def test_packed_and_unpacked(tmp_path, dataset, form):
    archive, folder = (
        packed(tmp_path / 'packed', dataset, form),
        unpacked(tmp_path / 'unpacked', dataset, form),
    )
    for i, source in enumerate([archive, archive.parent, folder, folder.parent]):
        run(dataset, source, tmp_path / str(i), '--no_verify', '--shards', '3')
        check(tmp_path / str(i), dataset)
    assert len(list((tmp_path / '0' / 'train').glob('*.tfrecord'))) == 3


@pytest.mark.parametrize('dataset', ['cifar10', 'cifar100'])
def test_python_and_binary_give_the_same_bytes(tmp_path, dataset):
    for form in ('python', 'binary'):
        run(
            dataset,
            packed(tmp_path, dataset, form),
            tmp_path / form,
            '--no_verify',
            '--shards',
            '2',
        )
    for split in ('train', 'test'):
        files = sorted((tmp_path / 'python' / split).iterdir())
        assert len(files) == 4
        for file in files:
            assert file.read_bytes() == (tmp_path / 'binary' / split / file.name).read_bytes()


@pytest.mark.parametrize('dataset', ['cifar10', 'cifar100'])
def test_archives_pickled_by_python_3(tmp_path, dataset):
    """Protocol 2 with bytes keys, the array in Fortran order, labels as an array."""

    def dumps(content):
        content = {
            key: np.array(value) if key.endswith('labels') else value
            for key, value in content.items()
        }
        content = {
            key: np.asfortranarray(value) if key == 'data' else value
            for key, value in content.items()
        }
        return pickle.dumps({key.encode(): value for key, value in content.items()}, protocol=2)

    run(
        dataset,
        unpacked(tmp_path, dataset, 'python', official(dataset, 'python', dumps)),
        tmp_path / 'out',
        '--no_verify',
        '--shards',
        '1',
    )
    check(tmp_path / 'out', dataset)


# ---- checks of the archive -----------------------------------------------------------------------


@pytest.fixture
def small_is_official(monkeypatch, tmp_path):
    """The small cifar10 python archive passes as the official one."""
    archive = packed(tmp_path, 'cifar10', 'python')
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(
        cifar,
        'FORMS',
        [form._replace(md5=md5) if form.archive == archive.name else form for form in cifar.FORMS],
    )
    monkeypatch.setitem(prepare_cifar.COUNTS, 'cifar10', {'train': TRAIN, 'test': TEST})
    return archive


def test_verified_archive(small_is_official, tmp_path):
    run('cifar10', small_is_official, tmp_path / 'out', '--shards', '1')
    check(tmp_path / 'out', 'cifar10')


def test_wrong_md5(tmp_path, capsys):
    archive = packed(tmp_path, 'cifar10', 'python')
    message = refused(capsys, 'cifar10', archive, tmp_path / 'out')
    found = hashlib.md5(archive.read_bytes()).hexdigest()
    for part in (str(archive), found, 'c58f30108f718f92721af3b95e74349a', '--no_verify'):
        assert part in message


def test_the_other_dataset(small_is_official, tmp_path, capsys):
    assert 'holds cifar-10-batches-py, --dataset says cifar100' in refused(
        capsys, 'cifar100', small_is_official, tmp_path / 'out'
    )
    assert 'no CIFAR archive' in refused(
        capsys,
        'cifar10',
        packed(tmp_path, 'cifar10', 'binary', {'x': b''}),
        tmp_path / 'out',
        '--no_verify',
    )


def test_count_is_verified(tmp_path, capsys):
    folder = unpacked(tmp_path, 'cifar100', 'binary')
    message = refused(capsys, 'cifar100', folder, tmp_path / 'out')
    assert 'found 15 train images, expected 50000' in message and '--no_verify' in message


def test_missing_files(tmp_path, capsys):
    folder = unpacked(tmp_path, 'cifar10', 'binary')
    (folder / 'data_batch_3.bin').unlink()
    for flags in ([], ['--no_verify']):
        message = refused(capsys, 'cifar10', folder, tmp_path / 'out', *flags)
        assert 'lacks data_batch_3.bin' in message and '--allow_partial' in message
    run('cifar10', folder, tmp_path / 'out', '--allow_partial', '--shards', '1')
    warning = capsys.readouterr().err  # all but the third of five
    assert 'warning: %s: lacks data_batch_3.bin' % folder in warning
    assert 'found 12 train images, expected 50000' in warning
    images, fine, _ = port_reads(tmp_path / 'out' / 'train')
    rest = np.r_[0:6, 9:15]
    expected = truth('cifar10', 'train')
    assert np.array_equal(images, expected[0][rest]) and np.array_equal(fine, expected[1][rest])
    (folder / 'test_batch.bin').unlink()
    assert 'lacks data_batch_3.bin, test_batch.bin' in refused(
        capsys, 'cifar10', folder, tmp_path / 'other', '--allow_partial'
    )


def test_an_archive_that_ends_early_is_not_whole(tmp_path, capsys):
    """A damaged header ends a tar archive without an error of tarfile."""
    archive = packed(tmp_path, 'cifar10', 'binary')
    content = bytearray(gzip.decompress(archive.read_bytes()))
    content[content.index(b'cifar-10-batches-bin/data_batch_3.bin')] ^= 0xFF
    archive.write_bytes(gzip.compress(bytes(content)))
    message = refused(capsys, 'cifar10', archive, tmp_path / 'out', '--no_verify')
    assert 'not a readable tar archive (damaged or cut off at byte' in message


def test_an_archive_of_another_content_than_its_checksum(tmp_path, capsys):
    archive = packed(tmp_path, 'cifar10', 'binary')
    content = bytearray(archive.read_bytes())
    content[-8] ^= 1  # of gzip's crc32, the last but four bytes
    archive.write_bytes(bytes(content))
    message = refused(capsys, 'cifar10', archive, tmp_path / 'out', '--no_verify')
    assert 'not a readable tar archive (CRC check failed' in message


def test_sources_that_are_none(tmp_path, capsys):
    out = tmp_path / 'out'
    assert 'no such file' in refused(capsys, 'cifar10', tmp_path / 'absent', out)
    assert '--source is missing' in refused(capsys, 'cifar10', None, out)
    (tmp_path / 'empty').mkdir()
    message = refused(capsys, 'cifar100', tmp_path / 'empty', out)
    assert (
        'cifar-100-python.tar.gz' in message
        and 'cifar-100-binary' in message
        and 'cifar-10-' not in message
    )
    with pytest.raises(SystemExit):
        run('cifar', None, out)
    assert 'legal: cifar10, cifar100, digits' in capsys.readouterr().err


def test_damaged_archive(tmp_path, capsys):
    archive = packed(tmp_path, 'cifar10', 'python')
    whole = archive.read_bytes()
    for content in (whole[: len(whole) // 2], b'<html>not found</html>', b''):
        archive.write_bytes(content)
        assert 'not a readable tar archive' in refused(
            capsys, 'cifar10', archive, tmp_path / 'out', '--no_verify'
        )


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
        (
            'python',
            'test_batch',
            lambda c: dump({'data': np.zeros((2, 3071), np.uint8), 'labels': [1, 2]}),
            '(2, 3071)',
        ),
        (
            'python',
            'test_batch',
            lambda c: dump({'data': np.zeros((2, 3072), np.float32), 'labels': [1, 2]}),
            'float32',
        ),
        (
            'python',
            'test_batch',
            lambda c: dump({'data': np.zeros((2, 3072), np.uint8), 'labels': [1]}),
            '1 labels',
        ),
        (
            'python',
            'test_batch',
            lambda c: dump({'data': np.zeros((2, 3072), np.uint8), 'labels': [0, -1]}),
            'found label -1',
        ),
        (
            'python',
            'test_batch',
            lambda c: dump({'data': np.zeros((1, 3072), np.uint8), 'labels': ['cat']}),
            'found label',
        ),
        ('python', 'batches.meta', lambda c: dump({'num_vis': 3072}), 'found 0 class names'),
    ],
)
def test_damaged_content(tmp_path, capsys, form, name, change, part):
    contents = official('cifar10', form)
    contents[name] = change(contents[name])
    archive = packed(tmp_path, 'cifar10', form, contents)
    message = refused(capsys, 'cifar10', archive, tmp_path / 'out', '--no_verify')
    assert part in message and str(archive) in message and name in message


@pytest.mark.parametrize('dataset, form', FORMS)
def test_damage_anywhere_is_one_line(tmp_path, capsys, mutated, dataset, form):
    """Success, or an error that names the file."""
    random, contents = np.random.RandomState(1), official(dataset, form)
    for case in range(25):
        damaged = dict(contents)
        name = sorted(contents)[random.randint(len(contents))]
        damaged[name] = mutated(contents[name], random)
        folder = unpacked(tmp_path / str(case), dataset, form, damaged)
        try:
            run(dataset, folder, tmp_path / ('out%d' % case), '--no_verify', '--shards', '1')
        except SystemExit as error:
            assert error.code == 2
    archive = packed(tmp_path, dataset, form)
    whole = gzip.decompress(archive.read_bytes())
    for case in range(25):
        archive.write_bytes(gzip.compress(mutated(whole, random), 1))
        try:
            run(dataset, archive, tmp_path / ('packed%d' % case), '--no_verify', '--shards', '1')
        except SystemExit as error:
            assert error.code == 2
    assert 'Traceback' not in capsys.readouterr().err


class Evil:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'call',
    [(os.mkdir, ('owned',)), (eval, ('__import__("os").mkdir("owned")',)), (np.load, ('owned',))],
)
def test_an_archive_cannot_run_code(tmp_path, capsys, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    contents = official('cifar10', 'python')
    contents['batches.meta'] = pickle.dumps(
        {b'label_names': NAMES['cifar10'], b'more': Evil(call)}, protocol=2
    )
    message = refused(
        capsys,
        'cifar10',
        unpacked(tmp_path, 'cifar10', 'python', contents),
        tmp_path / 'out',
        '--no_verify',
    )
    assert 'it asks for' in message and not (tmp_path / 'owned').exists()


def test_an_archive_cannot_hold_objects(tmp_path, capsys):
    contents = official('cifar10', 'python')
    contents['test_batch'] = pickle.dumps(
        {b'data': np.array([None, 'x'], object), b'labels': [0, 1]}, protocol=2
    )
    message = refused(
        capsys,
        'cifar10',
        unpacked(tmp_path, 'cifar10', 'python', contents),
        tmp_path / 'out',
        '--no_verify',
    )
    assert 'it holds an array of' in message


# ---- a finished output ---------------------------------------------------------------------------


def test_finished_output(small_is_official, tmp_path, capsys):
    out = tmp_path / 'out'
    run('cifar10', small_is_official, out, '--shards', '2')
    before = {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in out.rglob('*')}
    small_is_official.unlink()  # not even needed
    capsys.readouterr()
    run('cifar10', small_is_official, out, '--shards', '2')
    assert 'already there' in capsys.readouterr().err
    assert before == {
        file: (file.stat().st_mtime_ns, file.stat().st_size) for file in out.rglob('*')
    }
    assert 'found 15 records of cifar10' in refused(
        capsys, 'cifar100', small_is_official, out, '--no_verify'
    )


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
    run('cifar10', folder, out, '--no_verify', '--shards', '1')
    run('cifar10', folder, out, '--no_verify', '--shards', '1')
    assert 'found 15 records of cifar10, expected 50000 of cifar10' in refused(
        capsys, 'cifar10', folder, out
    )


# ---- digits --------------------------------------------------------------------------------------


def test_digits(tmp_path):
    """Started in its own folder, too, it gives every digit once, recognisable, in a fair split."""
    run('digits', None, tmp_path / 'a')
    subprocess.run(
        [sys.executable, 'prepare_cifar.py', '--dataset', 'digits', '--output', tmp_path / 'b'],
        cwd=str(ROOT / 'wideresnet_tf'),
        env=dict(os.environ, PYTHONPATH=''),
        check=True,
    )
    digits, seen = load_digits(), []
    linear = zoom(
        digits.images * (255 / 16), (1, 4, 4), order=1, mode='nearest', grid_mode=True
    ).reshape(1797, 1024)
    for split, count in (('train', 1437), ('test', 360)):
        for file in (tmp_path / 'a' / split).iterdir():
            assert file.read_bytes() == (tmp_path / 'b' / split / file.name).read_bytes()
        images, fine, coarse = port_reads(tmp_path / 'a' / split)
        assert images.shape == (count, 32, 32, 3) and not coarse.any()
        assert (images[..., 0] == images[..., 1]).all() and (images[..., 0] == images[..., 2]).all()
        share = np.bincount(digits.target) * count / 1797
        assert np.abs(np.bincount(fine) - share).max() <= 1
        # SciPy's enlargement (linear, about the same pixel centres) is close: nearest neighbours
        # are the digits themselves.
        found = images[..., 0].reshape(count, 1024).astype(np.float64)
        nearest = ((linear**2).sum(1)[None] - 2 * found @ linear.T).argmin(axis=1)
        assert np.array_equal(digits.target[nearest], fine)
        assert np.abs(found - linear[nearest]).mean() < 10
        seen += nearest.tolist()
        metadata = json.loads((tmp_path / 'a' / split / 'dataset.json').read_text())
        assert metadata['name'] == 'digits' and metadata['classes'] == [str(i) for i in range(10)]
    assert sorted(seen) == list(range(1797))
