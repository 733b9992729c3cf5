"""Damaged folders of records: what can be read is read, and the rest is a UserError."""

import json
import shutil

import numpy as np
import pytest

from common.data import records, tfrecord
from common.errors import UserError

ODD = [None, True, -1, 0, 1.5, 10**30, '', '../x', 'a\0b', 'ä' * 300, [], [[]], {}, {'file': 1}]


def use(path, skip_corrupt):
    """Opens and reads everything; True if that worked."""
    try:
        folder = records.Folder.open(path, skip_corrupt)
        folder.examples(range(folder.count), {'label': int, 'image': bytes})
        return True
    except UserError as error:
        assert '\n' not in str(error)
        return False


def replaced(content, random):
    """A JSON value with an odd one somewhere in it."""
    if random.rand() < 0.3 or not isinstance(content, (dict, list)) or not content:
        return ODD[random.randint(len(ODD))]
    content = json.loads(json.dumps(content))
    key = list(content)[random.randint(len(content))] if isinstance(content, dict) else 0
    content[key] = replaced(content[key], random)
    return content


@pytest.mark.parametrize('file', ['dataset.json', 'odd values', 'index.npy', 'shard', 'payload'])
def test_damaged_records(tmp_path, write, mutated, monkeypatch, file):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    source, random, worked = write(tmp_path / 'train', 12, shards=2), np.random.RandomState(0), 0
    for case in range(60):
        path = tmp_path / str(case)
        shutil.copytree(str(source), str(path))
        target = path / (file if '.' in file else 'train-00000-of-00002.tfrecord')
        if file == 'odd values':
            described = json.loads((path / 'dataset.json').read_text())
            (path / 'dataset.json').write_text(json.dumps(replaced(described, random)))
        elif file == 'payload':  # with the right checksum
            payloads = records.Folder.open(source).read(range(6))
            payloads[3] = mutated(payloads[3], random)
            target.write_bytes(b''.join(map(tfrecord.frame, payloads)))
            (path / 'dataset.json').unlink()
        else:
            target.write_bytes(mutated(target.read_bytes(), random))
        worked += use(path, skip_corrupt=3 if case % 3 == 0 else 0)
    assert worked < 60
