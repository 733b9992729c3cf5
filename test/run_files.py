"""Reads what a run has written, for tests."""

import json


def rows(folder, kind=None):
    """The rows of metrics.jsonl, or those of a kind, without steps that were trained again."""
    found = map(json.loads, (folder / 'metrics.jsonl').read_text().splitlines())
    return [row for row in found if kind in (None, row['kind']) and not row.get('superseded')]


def steps(folder, kind='train'):
    return [row['step'] for row in rows(folder, kind)]


def checkpoints(folder):
    """The steps of its training checkpoints."""
    return sorted(int(path.stem.split('-')[-1]) for path in folder.glob('model.ckpt-*.index'))


def evaluation(folder):
    return json.loads((folder / 'eval.json').read_text())


def content(folder):
    """{path: bytes} of everything in a folder but the log and TensorBoard's events."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file() and 'tfevents' not in path.name and path.name != 'log.txt'
    }
