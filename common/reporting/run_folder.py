"""Reads what training, evaluation and export wrote into a run's folder."""

import math
import pathlib
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np
import yaml

from common.files import read_json, read_rows
from common.metrics import figures
from common.metrics.figures import number

Row = Dict[str, Any]

# What a value in eval.json, offline.json or metrics.jsonl must be. Figures are read as numbers.
KEYS_OF_TYPE = {
    str: ('kind', 'model', 'checkpoint', 'backend', 'device'),
    int: ('step', 'resumed_from', 'total_steps', 'steps_per_epoch', 'global_batch', 'parameters')
    + ('ranks', 'images', 'batch_size'),
    dict: ('online', 'offline', 'latency_ms', 'size_bytes', 'software', 'iou', 'start_seconds'),
    list: ('classes', 'warnings'),
}
TYPES = {key: kind for kind, keys in KEYS_OF_TYPE.items() for key in keys}
UNREADABLE = (OSError, ValueError, LookupError, AttributeError, RecursionError, yaml.YAMLError)


class RunFolder:
    """What a run's folder holds. A part is empty if its file is missing; `notes` says what could
    not be read.

    config, eval: config.yaml and eval.json. offline: one result of each backend. confusion: int
    [C, C], row = true class. rows: of metrics.jsonl, {'run', 'start', 'train', 'eval', 'end':
    [row]}, each with 'minutes' since the start, pauses between sessions left out, without those
    that a resumed session has superseded. ended: the latest session wrote its last row.
    galleries: {title: [(file relative to the folder, caption)]} of the pictures that evaluation
    left in subfolders.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.notes: List[str] = []
        self.config: Row = self._load('config.yaml', _read_mapping, {})
        self.eval: Row = self._typed('eval.json', self._load('eval.json', _read_mapping, {}))
        self.offline: List[Row] = []
        for name in ('offline.json', 'offline/offline.json'):
            content = self._load(name, _read_mapping, {})
            shared = {key: content.get(key) for key in ('model', 'checkpoint')}
            results = content.get('results', {})
            for result in results.values() if isinstance(results, dict) else [results]:
                if isinstance(result, dict):
                    self.offline.append(self._typed(name, dict(shared, **result)))
                else:
                    self._note_left_out(name, 'does not hold results')
        self.confusion: np.ndarray = self._load('confusion.npy', _read_confusion, np.zeros((0, 0)))
        self.galleries: Dict[str, List[Tuple[str, str]]] = {}
        for path in sorted(folder.glob('*/gallery.json')):
            self._read_gallery(path.parent.name)
        kinds = ('run', 'start', 'train', 'eval', 'end')
        self.rows: Dict[str, List[Row]] = {kind: [] for kind in kinds}
        self.ended = False
        self._read_rows()

    def _note_left_out(self, name: str, why: str) -> None:
        note = '%s %s and is left out.' % (name, why)
        if note not in self.notes:
            self.notes.append(note)

    def _load(self, name: str, reader: Callable, default: Any) -> Any:
        """What `reader` makes of a file; `default` if there is none or it cannot be read."""
        path = self.folder / name
        try:
            return reader(path) if path.exists() else default
        except UNREADABLE as error:
            why = (str(error).splitlines() or [type(error).__name__])[0]
            self._note_left_out(name, 'cannot be read (%s)' % why)
            return default

    def _typed(self, name: str, row: Row) -> Row:
        """The row without values of the wrong type."""
        valid = {key: value for key, value in row.items() if _fits(key, value)}
        for key in sorted(set(row) - set(valid)):
            self._note_left_out('%s: %s' % (name, key), 'is %.40r' % (row[key],))
        return valid

    def _read_gallery(self, subfolder: str) -> None:
        name = subfolder + '/gallery.json'
        content = self._load(name, _read_mapping, {})
        try:
            files = [
                ('%s/%s' % (subfolder, item['file']), str(item['caption']))
                for item in content['pictures']
            ]
            title = str(content['title'])
        except (KeyError, TypeError):
            self._note_left_out(name, 'does not list pictures')
            return
        self.galleries[title] = [item for item in files if (self.folder / item[0]).is_file()]

    def _read_rows(self) -> None:
        name, elapsed, last = 'metrics.jsonl', 0.0, None
        try:
            rows, broken = read_rows(self.folder / name)
        except OSError as error:
            rows, broken = [], 0
            self._note_left_out(name, 'cannot be read (%s)' % error.strerror)
        for row in rows:
            row = self._typed(name, row)
            kind, now = row['kind'], row.get('time', last)
            self.ended = kind == 'end' or self.ended and kind != 'run'
            if kind != 'run' and last is not None:
                elapsed += now - last  # the pause before a session does not count
            last = now
            complete = kind not in ('train', 'eval') or 'step' in row
            if kind in self.rows and complete and not row.get('superseded'):
                self.rows[kind].append(dict(row, minutes=elapsed / 60))
        if broken:
            self.notes.append('%d line(s) of %s cannot be read and are left out.' % (broken, name))
        train = self.rows['train']
        steps = [row['step'] for row in train if not math.isfinite(number(row.get('loss')))]
        if steps:
            self.notes.append(
                'The training loss is not finite in %d of %d logged steps, first at step %d.'
                % (len(steps), len(train), steps[0])
            )

    @property
    def is_empty(self) -> bool:
        has_content = any(self.rows.values()) or self.eval or self.offline or self.confusion.size
        return not (has_content or self.notes)

    @property
    def model(self) -> str:
        named = [source.get('model') for source in (self.eval, self.config, self.session)]
        return str(next(filter(None, named), self.folder.resolve().name))

    @property
    def score(self) -> str:
        """The key of the evaluation's main figure."""
        return figures.score({key for row in [self.eval, *self.rows['eval']] for key in row})

    @property
    def session(self) -> Row:
        """The latest "run" row with the "start" row of its network, {} if there is none."""
        return {**(self.rows['start'] or [{}])[-1], **(self.rows['run'] or [{}])[-1]}

    @property
    def latest(self) -> Row:
        """The final evaluation, else the latest one while training, else {}."""
        return self.eval or (self.rows['eval'] or [{}])[-1]

    @property
    def speed(self) -> float:
        """Images per second that the last finished session trained at, NaN if unknown."""
        return number((self.rows['end'] or [{}])[-1].get('images_per_second'))

    @property
    def last_step(self) -> Optional[int]:
        rows = self.rows['train'] + self.rows['eval'] + self.rows['end']
        return max((row['step'] for row in rows if 'step' in row), default=None)

    @property
    def unit(self) -> str:
        """What curves are drawn over: 'epoch', or 'step' if a row does not say its epoch."""
        rows = self.rows['train'] + self.rows['eval']
        return 'epoch' if all('epoch' in row for row in rows) else 'step'

    def x(self, kind: str) -> np.ndarray:
        return self.column(kind, self.unit)

    def column(self, kind: str, key: str) -> np.ndarray:
        """float64 values of a key over the rows of a kind; NaN where it is missing."""
        return np.array([number(row.get(key)) for row in self.rows[kind]])

    @property
    def per_class(self) -> Dict[str, Dict[str, float]]:
        """{figure: {class name: value, NaN for a class without one}} of eval.json."""
        return {
            key: {str(name): number(item) for name, item in value.items()}
            for key, value in self.eval.items()
            if isinstance(value, dict) and figures.is_fraction(key)
        }

    @property
    def counted(self) -> str:
        """What the confusion matrix counts."""
        return 'pixels' if self.confusion.sum() > number(self.eval.get('images')) else 'images'

    @property
    def classes(self) -> List[str]:
        """The names of the confusion matrix's classes, else their numbers."""
        names, numbers = self.eval.get('classes', []), range(len(self.confusion))
        return [str(name) for name in (names if len(names) == len(numbers) else numbers)]

    def published(self) -> Dict[str, Dict[str, float]]:
        """{source: {figure: value}}, the key `published` of config.yaml."""
        sources = self.config.get('published') or {}
        if isinstance(sources, dict) and all(isinstance(row, dict) for row in sources.values()):
            return sources
        why = 'is not of the form {source: {figure: value}}'
        self._note_left_out('published in config.yaml', why)
        return {}


def _read_mapping(path: pathlib.Path) -> Row:
    content = read_json(path) if path.suffix == '.json' else yaml.safe_load(path.read_text())
    if not isinstance(content, dict):
        raise ValueError('it does not hold a mapping')
    return content


def _read_confusion(path: pathlib.Path) -> np.ndarray:
    try:
        matrix = np.load(str(path))
    except Exception as error:  # the header is parsed as Python: a damaged one raises anything
        raise ValueError(str(error))
    is_square = isinstance(matrix, np.ndarray) and matrix.ndim == 2 and len(set(matrix.shape)) == 1
    if not (is_square and matrix.dtype.kind in 'iu' and (matrix >= 0).all()):
        raise ValueError('it does not hold a confusion matrix')
    return matrix


def _fits(key: str, value: Any) -> bool:
    if key in TYPES:
        return isinstance(value, TYPES[key]) and not isinstance(value, bool)
    return key not in ('time', 'seconds') or 0 <= number(value) < 1e11
