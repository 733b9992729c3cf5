"""Reads what training, evaluation and export wrote into a run's folder."""

import json
import math
import pathlib
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import yaml

# Metrics that are fractions 0..1 in every file, and their names in print. The first that an
# evaluation has is its score.
FRACTIONS = {
    'top1': 'top-1',
    'miou': 'mIoU',
    'top5': 'top-5',
    'mean_accuracy': 'mean accuracy',
    'accuracy': 'accuracy',
    'frequency_weighted_iou': 'frequency-weighted IoU',
}
Published = Dict[str, Dict[str, float]]


class RunFolder:
    """What a run's folder holds. Each part is empty if its file is missing; `notes` says what could
    not be read.
    """

    def __init__(self, folder: pathlib.Path):
        self.notes: List[str] = []
        self.config: Dict[str, Any] = self._load(
            folder / 'config.yaml', lambda path: yaml.safe_load(path.read_text()), dict
        )
        self.eval: Dict[str, Any] = self._load(
            folder / 'eval.json', lambda path: json.loads(path.read_text()), dict
        )
        self.offline: List[Dict[str, Any]] = [
            result
            for path in (folder / 'offline.json', folder / 'offline' / 'offline.json')
            for result in self._load(path, _offline_results, list)
        ]  # one of each backend
        self.confusion: np.ndarray = self._load(folder / 'confusion.npy', np.load, np.ndarray)
        self.counted = (
            'pixels' if 'miou' in self.eval else 'images'
        )  # what the confusion matrix counts
        self.samples: List[str] = sorted(path.name for path in (folder / 'samples').glob('*.png'))
        self.lines: Dict[str, List[Dict[str, Any]]] = {
            'run': [],
            'train': [],
            'eval': [],
            'end': [],
        }
        self.ended = False  # the latest session wrote its last line
        self._read_lines(folder / 'metrics.jsonl')
        classes = self.eval.get('classes') or self.config.get('classes') or []
        size = len(self.confusion)
        self.classes = (
            [str(name) for name in classes]
            if len(classes) == size
            else [str(index) for index in range(size)]
        )

    def _load(self, path: pathlib.Path, loader: Callable, kind: type):
        empty = np.zeros((0, 0), np.int64) if kind is np.ndarray else kind()
        if not path.exists():
            return empty
        try:
            value = loader(path)
            if isinstance(value, kind) and (
                kind is not np.ndarray or value.ndim == 2 and len(set(value.shape)) == 1
            ):
                return value
            problem = 'does not hold a %s' % ('mapping' if kind is dict else 'square matrix')
        except (OSError, ValueError, yaml.YAMLError) as error:
            problem = 'cannot be read (%s)' % str(error).splitlines()[0]
        self.notes.append('%s %s and is left out.' % (path.name, problem))
        return empty

    def _read_lines(self, path: pathlib.Path) -> None:
        lines = path.read_text(errors='replace').splitlines() if path.exists() else []
        broken, elapsed, last = 0, 0.0, None
        for index, line in enumerate(lines):
            try:
                row = json.loads(line)
                kind = row['kind']
            except (ValueError, KeyError, TypeError):
                broken += (
                    index < len(lines) - 1
                )  # the last line of a killed or a running session may be half written
                continue
            now = row.get('time', last)
            self.ended = kind == 'end' or self.ended and kind != 'run'
            if kind == 'run':
                # What was logged after the checkpoint that this session resumed from has been
                # trained again since.
                for rows in (self.lines['train'], self.lines['eval']):
                    rows[:] = [old for old in rows if old['step'] <= row.get('resumed_from', 0)]
            elif last is not None:
                elapsed += now - last  # the pause before a session does not count
            last = now
            if kind in self.lines and (kind not in ('train', 'eval') or 'step' in row):
                self.lines[kind].append(dict(row, minutes=elapsed / 60))
        if broken:
            self.notes.append(
                '%d line(s) of %s cannot be read and are left out.' % (broken, path.name)
            )
        bad = [
            row['step'] for row in self.lines['train'] if not math.isfinite(number(row.get('loss')))
        ]
        if bad:
            self.notes.append(
                'The training loss is not finite in %d of %d logged steps, first at step %d.'
                % (len(bad), len(self.lines['train']), bad[0])
            )

    @property
    def score(self) -> str:
        """The evaluation's main metric."""
        known = [self.eval] + self.lines['eval']
        return next((name for name in FRACTIONS if any(name in row for row in known)), 'top1')

    @property
    def session(self) -> Dict[str, Any]:
        """The latest "run" line, {} if there is none."""
        return self.lines['run'][-1] if self.lines['run'] else {}

    @property
    def last_step(self) -> Optional[int]:
        return max(
            (
                row['step']
                for kind in ('train', 'eval', 'end')
                for row in self.lines[kind]
                if 'step' in row
            ),
            default=None,
        )

    @property
    def has_epochs(self) -> bool:
        return all('epoch' in row for row in self.lines['train'] + self.lines['eval'])

    def column(self, kind: str, key: str) -> np.ndarray:
        """float64 values of a key over the lines of a kind; NaN where it is missing."""
        return np.array([number(row.get(key)) for row in self.lines[kind]])

    def published(self) -> Published:
        """The key `published` of config.yaml."""
        sources = self.config.get('published') or {}
        if isinstance(sources, dict) and all(isinstance(row, dict) for row in sources.values()):
            return sources
        self.notes.append(
            'published in config.yaml is not of the form {source: {metric: value}} and is left out.'
        )
        return {}


def _offline_results(path: pathlib.Path) -> List[Dict[str, Any]]:
    """The results in an offline.json, each with the model and the checkpoint that they share."""
    try:
        content = json.loads(path.read_text())
        return [
            dict(model=content['model'], checkpoint=content['checkpoint'], **result)
            for result in content['results'].values()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError('not of the form that offline inference writes: %s' % error)


def number(value: Any) -> float:
    """`value` as a float; NaN for None and for what is no number."""
    try:
        return float('nan') if value is None else float(value)
    except (TypeError, ValueError):
        return float('nan')
