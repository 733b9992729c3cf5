"""Whatever a run's files hold, the report is written or one line says what is wrong."""

import json
import random

import numpy as np
import pytest
import yaml
from example_runs import whole_run

from common import report as command
from common.reporting import report

ODD = [None, True, -1, 0, 1e300, float('nan'), float('inf'), 'x', '', [], [1, 'a'], {}, {'a': None}]


def changed(value, choose):
    """`value` with one thing in it replaced by something odd, added or removed."""
    if isinstance(value, dict) and value and choose.random() < 0.8:
        key = choose.choice(sorted(value))
        if choose.random() < 0.2:
            return {name: item for name, item in value.items() if name != key}
        return dict(value, **{key: changed(value[key], choose)})
    if isinstance(value, list) and value and choose.random() < 0.8:
        index = choose.randrange(len(value))
        return value[:index] + [changed(value[index], choose)] + value[index + 1 :]
    return choose.choice(ODD)


@pytest.mark.parametrize('seed', range(4))
def test_odd_values(seed, tmp_path, text_only):
    whole_run(tmp_path)
    (tmp_path / 'eval.json').write_text(
        json.dumps(
            dict(
                json.loads((tmp_path / 'eval.json').read_text()),
                classes=[str(index) for index in range(10)],
                iou={'road': 0.5, 'sky': None},
            )
        )
    )
    names = ('eval.json', 'offline.json', 'config.yaml', 'metrics.jsonl')
    texts = {name: (tmp_path / name).read_text() for name in names}
    choose = random.Random(seed)
    for _ in range(30):
        for name, text in texts.items():
            if name == 'metrics.jsonl':
                rows = [json.loads(line) for line in text.splitlines()]
                index = choose.choice([0, 1, 2, len(rows) - 2, len(rows) - 1])
                rows[index] = changed(rows[index], choose)
                text = '\n'.join(map(json.dumps, rows))
            elif name == 'config.yaml':
                text = yaml.safe_dump(changed(yaml.safe_load(text), choose))
            else:
                text = json.dumps(changed(json.loads(text), choose))
            (tmp_path / name).write_text(text)
        assert report.write(tmp_path).read_text().startswith('# ')


@pytest.mark.parametrize('seed', range(2))
def test_damaged_bytes(seed, tmp_path, text_only):
    whole_run(tmp_path)
    names = ('eval.json', 'offline.json', 'config.yaml', 'metrics.jsonl', 'confusion.npy')
    contents = {name: (tmp_path / name).read_bytes() for name in names}
    choose = random.Random(seed)
    for _ in range(30):
        for name, content in contents.items():
            start = choose.randrange(len(content))
            junk = bytes(choose.randrange(256) for _ in range(choose.choice([0, 1, 5])))
            end = choose.choice([start, start + 3, len(content)])
            (tmp_path / name).write_bytes(content[:start] + junk + content[end:])
        assert report.write(tmp_path).read_text().startswith('# ')


@pytest.mark.parametrize('name', ['eval.json', 'offline.json', 'config.yaml', 'metrics.jsonl'])
@pytest.mark.parametrize(
    'content',
    [b'', b'\0', b'\xff\xfe', b'[' * 5000, b'{"a": ' * 5000, None],
    ids=['empty', 'zero', 'binary', 'lists', 'mappings', 'folder'],
)
def test_odd_files(name, content, tmp_path, text_only):
    """content None: a folder stands in the file's place."""
    np.save(str(tmp_path / 'confusion.npy'), np.array([[3, 1], [0, 4]]))
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(content)
    assert '## Where it errs' in report.write(tmp_path).read_text()


@pytest.mark.parametrize(
    'matrix', [np.eye(3), -np.eye(2, dtype=int), np.zeros([2, 3], int), np.array('x'), np.zeros(4)]
)
def test_odd_matrices(matrix, tmp_path):
    np.save(str(tmp_path / 'confusion.npy'), matrix)
    text = report.write(tmp_path).read_text()
    assert 'confusion.npy cannot be read (it does not hold a confusion matrix)' in text


def test_a_report_that_cannot_be_written(tmp_path, capsys):
    whole_run(tmp_path)
    (tmp_path / 'plots').write_text('a file in the place of the folder')
    with pytest.raises(SystemExit) as stop:
        command.main([str(tmp_path)])
    assert stop.value.code == 2
    assert capsys.readouterr().err == 'error: %s: File exists\n' % (tmp_path / 'plots')


def test_half_a_character(tmp_path, text_only):
    """JSON can hold one, UTF-8 cannot."""
    (tmp_path / 'eval.json').write_text('{"top1": 0.5, "classes": ["\\ud800", "b"]}')
    np.save(str(tmp_path / 'confusion.npy'), np.array([[3, 1], [0, 4]]))
    assert '\\ud800' in report.write(tmp_path).read_text()
