"""Small CIFAR archives in the official formats, for the tests of prepare_cifar."""

import io
import pickle
import struct

import numpy as np
import tensorflow_records
from preparing import refusal, tar, write_files

from common.data import records
from wideresnet_tf import prepare_cifar

TRAIN, TEST = 15, 7
NAMES = {
    'cifar10': 'airplane automobile bird cat deer dog frog horse ship truck'.split(),
    'cifar100': ['class_%d' % i for i in range(100)],
}
FOLDERS = {
    ('cifar10', 'python'): 'cifar-10-batches-py',
    ('cifar10', 'binary'): 'cifar-10-batches-bin',
    ('cifar100', 'python'): 'cifar-100-python',
    ('cifar100', 'binary'): 'cifar-100-binary',
}


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
    coarse = random.randint(0, 20, count) if dataset == 'cifar100' else np.zeros(count, int)
    return images, fine, coarse


def batches(dataset, form, dumps):
    """{file name: content} of the images, byte for byte in the official layout."""
    found = {}
    for split in ('train', 'test'):
        images, fine, coarse = truth(dataset, split)
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)  # R, G and B plane
        names = [split]
        if dataset == 'cifar10' and split == 'train':
            names = ['data_batch_%d' % i for i in range(1, 6)]
        elif dataset == 'cifar10':
            names = ['test_batch']
        for rows, name in zip(np.array_split(np.arange(len(images)), len(names)), names):
            labels = {'coarse_labels': coarse[rows].tolist(), 'fine_labels': fine[rows].tolist()}
            if dataset == 'cifar10':
                labels = {'labels': labels['fine_labels']}
            if form == 'binary':
                found[name + '.bin'] = b''.join(
                    bytes(values) + planes[row].tobytes()
                    for row, *values in zip(rows, *labels.values())
                )
            else:
                files = ['%d.png' % i for i in rows]
                content = {'batch_label': name, 'filenames': files, 'data': planes[rows]}
                found[name] = dumps({**content, **labels})
    return found


def official(dataset, form, dumps=dump):
    """{file name: content} of a small archive."""
    contents = {**batches(dataset, form, dumps), 'readme.html': b'<p>hello</p>'}
    names = NAMES[dataset]
    lines = ''.join(name + '\n' for name in names)
    if form == 'binary' and dataset == 'cifar10':
        contents['batches.meta.txt'] = (lines + '\n').encode()
    elif form == 'binary':
        contents['fine_label_names.txt'] = lines.encode()
        contents['coarse_label_names.txt'] = b''.join(b'coarse_%d\n' % i for i in range(20))
    elif dataset == 'cifar10':
        meta = {'label_names': names, 'num_cases_per_batch': 10000, 'num_vis': 3072}
        contents['batches.meta'] = dumps(meta)
    else:
        coarse = ['c%d' % i for i in range(20)]
        contents['meta'] = dumps({'fine_label_names': names, 'coarse_label_names': coarse})
    return contents


def unpacked(path, dataset, form, contents=None):
    folder = path / FOLDERS[dataset, form]
    folder.mkdir(parents=True)
    return write_files(folder, contents or official(dataset, form))


def packed(path, dataset, form, contents=None):
    path.mkdir(parents=True, exist_ok=True)
    archive, folder = path / ('cifar-%s-%s.tar.gz' % (dataset[5:], form)), FOLDERS[dataset, form]
    files = (contents or official(dataset, form)).items()
    entries = {'%s/%s' % (folder, name): content for name, content in files}
    archive.write_bytes(tar({folder: None, **entries}, 'w:gz'))
    return archive


def run(dataset, source, output, *flags):
    sources = ['--source', str(source)] if source else []
    prepare_cifar.main(['--dataset', dataset, '--output', str(output), *sources, *flags])


def refused(capsys, dataset, source, output, *flags):
    """The one line that the command ends with; nothing may be written."""
    before = sorted(output.rglob('*'))
    line = refusal(capsys, run, dataset, source, output, *flags)
    assert sorted(output.rglob('*')) == before
    return line


def read(folder):
    """Images, fine and coarse labels, files in the order of their names."""
    found = tensorflow_records.read(folder)
    assert all(set(row) == {'image', 'fine_label', 'coarse_label'} for row in found)
    images = np.array([np.frombuffer(row['image'], np.uint8) for row in found])
    fine, coarse = ([row[key] for row in found] for key in ('fine_label', 'coarse_label'))
    return images.reshape(-1, 32, 32, 3), np.array(fine), np.array(coarse)


def check(output, dataset):
    for split in ('train', 'test'):
        for found, expected in zip(read(output / split), truth(dataset, split)):
            assert np.array_equal(found, expected)
        folder = records.Folder.open(output / split)
        assert folder.count == len(expected)
        assert folder.metadata['name'] == dataset and folder.metadata['split'] == split
        assert folder.metadata['classes'] == NAMES[dataset]
        assert set(folder.metadata['schema']) == {'image', 'fine_label', 'coarse_label'}
