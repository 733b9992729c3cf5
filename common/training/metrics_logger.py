"""A run's written record: metrics.jsonl, log.txt, TensorBoard events and the console."""

import json
import math
import os
import sys
import time
from typing import Any, Dict, List

import numpy as np
import tensorflow as tf
import tqdm

from common.files import read_rows, write_text
from common.metrics.pictures import png


def current_steps(rows: List[Dict[str, Any]], kind: str, last_step: int) -> List[int]:
    """Returns the steps up to `last_step` of the rows of a kind that were not superseded."""
    return [
        row['step']
        for row in rows
        if row['kind'] == kind and not row.get('superseded') and row.get('step', 0) <= last_step
    ]


class MetricsLogger:
    """Writes the record of a run; does nothing on ranks other than 0."""

    def __init__(self, folder: str, is_chief: bool, resumed_from: int = 0):
        """Marks the rows of steps after `resumed_from` as superseded: they are trained again."""
        self._is_chief = is_chief
        if not is_chief:
            return
        os.makedirs(folder, exist_ok=True)
        self._path = os.path.join(folder, 'metrics.jsonl')
        rows, _ = read_rows(self._path)
        for row in rows:
            if row.get('step', 0) > resumed_from:
                row['superseded'] = True
        write_text(self._path, ''.join(json.dumps(row) + '\n' for row in rows))
        self._log = open(os.path.join(folder, 'log.txt'), 'a')
        # The Estimator's own writer names its file by the second too; one file of both is damaged.
        self._events = tf.summary.FileWriter(folder, filename_suffix='.metrics')

    def log(self, text: str) -> None:
        """Writes one line to the console and to log.txt."""
        if self._is_chief:
            tqdm.tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()
            self._log.write(text + '\n')
            self._log.flush()

    def record(self, kind: str, **values: Any) -> None:
        """Appends a row to metrics.jsonl; numbers of rows with a step go to TensorBoard as well."""
        if not self._is_chief:
            return
        row = dict(kind=kind, **values, time=round(time.time(), 3))
        for key, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                row[key] = None
        with open(self._path, 'a') as lines:
            lines.write(json.dumps(row, allow_nan=False) + '\n')
        if 'step' in values:
            scalars = [
                tf.Summary.Value(tag='%s/%s' % (kind, key), simple_value=value)
                for key, value in values.items()
                if key != 'step' and isinstance(value, (int, float))
            ]
            self._add_events(scalars, values['step'])

    def picture(self, tag: str, image: np.ndarray, step: int) -> None:
        """Shows a picture, uint8 RGB [H,W,3], in TensorBoard."""
        height, width, channels = image.shape
        summary = tf.Summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=png(image)
        )
        self._add_events([tf.Summary.Value(tag=tag, image=summary)], step)

    def _add_events(self, values: List[tf.Summary.Value], step: int) -> None:
        self._events.add_summary(tf.Summary(value=values), step)
        self._events.flush()
