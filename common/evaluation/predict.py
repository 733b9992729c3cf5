"""Classifies image files, with any classifier's run script:

    python xception_tf/run_xception.py --predict cat.jpg folder/ --model_path CKPT [--class_names
    FILE] [flags of the run]

Prints each image's likeliest classes and writes predictions.json and predictions.csv to
--output_path (default: beside the checkpoint). Files that cannot be read are named and left out;
the exit status is then 1.
"""

import argparse
import csv
import itertools
import json
import os
import pathlib
import sys
import tempfile
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf
import tqdm

from common import devices, models
from common.checkpoints import restore
from common.data import images, records
from common.errors import UserError, entry_point
from common.evaluation.evaluate import model_fn
from common.files import atomic, write_json
from common.task import Task

TOP = 5
Skip = Dict[str, str]  # {file: why it was left out}


def find(paths: Sequence[str]) -> List[pathlib.Path]:
    """The named files, and in place of a folder the image files below it, sorted. UserError for a
    folder that holds none.
    """
    files = []
    for path in map(pathlib.Path, paths):
        found = [path]
        if path.is_dir():
            found = sorted(
                file
                for file in path.rglob('*')
                if file.suffix.lower() in images.SUFFIXES and not file.name.startswith('.')
            )
            if not found:
                raise UserError(
                    '--predict %s: the folder holds no image (%s)'
                    % (path, ', '.join(images.SUFFIXES))
                )
        files += found
    return files


def class_names(task: Task, cfg: Any, path: Optional[str]) -> List[str]:
    """Names of the classes: the lines of the file `path`, else those in the dataset.json of
    --data_path, else the indices.
    """
    source = (
        pathlib.Path(path)
        if path
        else records.split_path(cfg.data_path, task.eval_split) / 'dataset.json'
    )
    names = []
    try:
        if path:
            names = source.read_text('utf-8').splitlines()
        elif source.is_file():
            names = task.data.class_names(json.loads(source.read_text()), cfg)
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            '%s cannot be read (%s); give --class_names FILE, a text with one name a line'
            % (source, error)
        )
    if (names or path) and len(names) != cfg.num_classes:
        raise UserError(
            '%s names %d classes, the network has %d; give --class_names FILE with one name a line,'
            ' or another --num_classes' % (source, len(names), cfg.num_classes)
        )
    return names or [str(index) for index in range(cfg.num_classes)]


class _Logits(tf.train.SessionRunHook):
    """Gathers the logits of an evaluation graph."""

    def __init__(self, tensor: str, bar: tqdm.tqdm):
        self.rows: List[np.ndarray] = []
        self._tensor, self._bar = tensor, bar

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._tensor)

    def after_run(self, run_context, run_values):
        self.rows += list(run_values.results)
        self._bar.update(len(run_values.results))


def _decoded(
    task: Task, cfg: Any, files: Sequence[pathlib.Path], skipped: Skip
) -> Iterator[Tuple[pathlib.Path, np.ndarray]]:
    for file in files:
        try:
            yield file, task.data.decode(file.read_bytes(), cfg)
        except (OSError, ValueError) as error:
            skipped[str(file)] = getattr(error, 'strerror', None) or str(error)


def predict(
    task: Task,
    cfg: Any,
    device: devices.Device,
    plan: restore.RestorePlan,
    files: Sequence[pathlib.Path],
    skipped: Skip,
) -> List[Tuple[pathlib.Path, np.ndarray]]:
    """Returns (file, logits [num_classes]) of the files that can be read, in their order. What
    cannot is added to `skipped`.

    The graph is that of evaluation, and so are the preprocessing and the device.
    """
    size = min(cfg.batch_size, len(files))
    pairs = _decoded(task, cfg, files, skipped)
    first = next(pairs, None)
    if first is None:
        return []
    pairs = itertools.chain([first], pairs)
    read: List[pathlib.Path] = []

    def batches():
        while True:
            group = list(itertools.islice(pairs, size))
            if not group:
                return
            read.extend(file for file, _ in group)
            batch = np.zeros(
                (size,) + tuple(cfg.input_shape), np.uint8
            )  # always full: the device's shapes are static
            batch[: len(group)] = [image for _, image in group]
            yield {
                'image': batch,
                'label': np.zeros(size, np.int32),
                'mask': np.zeros(size, np.float32),
            }

    def input_fn():
        types = {'image': tf.uint8, 'label': tf.int32, 'mask': tf.float32}
        return tf.data.Dataset.from_generator(
            batches, types, dict(image=(size,) + tuple(cfg.input_shape), label=[size], mask=[size])
        ).prefetch(2)

    with tempfile.TemporaryDirectory(prefix='prediction-') as scratch, tqdm.tqdm(
        total=len(files), unit=' images', disable=None, leave=False, dynamic_ncols=True
    ) as bar:
        logits = _Logits(task.offline.output_name + ':0', bar)
        device.estimator(model_fn(task, cfg, plan.names), cfg, scratch).evaluate(
            input_fn, hooks=[logits], checkpoint_path=plan.checkpoint.path
        )
    return list(zip(read, logits.rows))  # the rows that fill the last batch up have no file


def ranking(logits: np.ndarray, names: Sequence[str]) -> List[Dict[str, Any]]:
    """The TOP likeliest classes, [{'class': index, 'name', 'probability'}]; equal ones by rising
    index, as top-k is counted.
    """
    logits = np.asarray(logits, np.float64)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    return [
        {'class': int(index), 'name': names[index], 'probability': float(probabilities[index])}
        for index in np.argsort(-logits, kind='stable')[:TOP]
    ]


def write(
    results: Sequence[Dict[str, Any]], skipped: Skip, head: Dict[str, Any], output: pathlib.Path
) -> None:
    """Writes predictions.json, and predictions.csv with a line for each image and rank."""
    write_json(output / 'predictions.json', dict(head, predictions=list(results), skipped=skipped))
    with atomic(output / 'predictions.csv') as temporary, open(
        str(temporary), 'w', newline='', encoding='utf-8'
    ) as table:
        writer = csv.writer(table)
        writer.writerow(['file', 'rank', 'class', 'name', 'probability'])
        writer.writerows(
            [result['file'], rank, top['class'], top['name'], '%.6f' % top['probability']]
            for result in results
            for rank, top in enumerate(result['top'], 1)
        )


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UserError(message)


@entry_point
def run(task: Task, argv: Sequence[str]) -> None:
    """The command: flags -> predictions on the console and in the files."""
    parser = _Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        '--predict',
        nargs='+',
        required=True,
        metavar='PATH',
        help='image files, and folders of them',
    )
    parser.add_argument(
        '--class_names',
        metavar='FILE',
        help='text with one name a line; default: those in the dataset.json of --data_path',
    )
    if '-h' in argv or '--help' in argv:
        parser.print_help()
        return
    options, flags = parser.parse_known_args(argv)
    cfg = models.parse(task, flags)
    if not hasattr(task.data, 'decode'):
        raise UserError('--predict: %s is not a classifier' % task.name)
    if cfg.do_train or not cfg.model_path:
        raise UserError('--predict needs a checkpoint, --model_path CKPT, and no --do_train True')
    files, names = find(options.predict), class_names(task, cfg, options.class_names)
    device = devices.select(cfg.device)
    if device.size > 1:
        raise UserError('--predict runs on one device; start it without a launcher')
    plan = restore.plan_restore(task, cfg, cfg.model_path)
    skipped: Skip = {}
    results = [
        {'file': str(file), 'top': ranking(logits, names)}
        for file, logits in predict(task, cfg, device, plan, files, skipped)
    ]
    for result in results:
        print(result['file'])
        for top in result['top']:
            print('  %6.2f %%  %s' % (100 * top['probability'], top['name']))
    output = pathlib.Path(cfg.output_path or os.path.dirname(plan.checkpoint.path))
    write(
        results,
        skipped,
        {'model': task.name, 'checkpoint': os.path.abspath(plan.checkpoint.path)},
        output,
    )
    print(
        '%d of %d images: %s, %s'
        % (len(results), len(files), output / 'predictions.json', output / 'predictions.csv')
    )
    if skipped:
        for file, why in skipped.items():
            sys.stderr.write('skipped %s: %s\n' % (file, why))
        sys.stderr.write('error: %d of %d images could not be read\n' % (len(skipped), len(files)))
        sys.exit(1)
