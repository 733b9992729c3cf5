"""What a network says about image files: classes of a classifier, label maps of a segmentation.

From Python:

    from common import models
    from common.evaluation import predict

    task, cfg = models.configure('wideresnet', ['--config', RECIPE, '--model_path', CHECKPOINT])
    for file, logits in predict.run(task, cfg, ['cat.jpg', 'dog.jpg']):
        print(file, predict.ranking(logits, names)[0])

The graph, the preprocessing and the device are those of evaluation.
"""

import itertools
import pathlib
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import cv2
import numpy as np
import tensorflow as tf
import tqdm

from common import devices
from common.checkpoints import restore
from common.configuration.fields import warn_without_effect
from common.data import images, records
from common.errors import UserError
from common.evaluation import evaluate
from common.files import read_json, temporary_folder
from common.task import Task

TOP = 5
Skipped = Dict[str, str]  # {file: why it was left out}
Result = Tuple[pathlib.Path, np.ndarray]


def is_dense(cfg: Any) -> bool:
    """Whether the network labels pixels; else it classifies images."""
    return hasattr(cfg, 'labels')


def run(
    task: Task, cfg: Any, files: Sequence[Any], skipped: Optional[Skipped] = None
) -> List[Result]:
    """Returns (file, prediction) of the files that can be read, in their order.

    The prediction is the logits, float32 [num_classes], or of a segmentation the classes of the
    pixels, uint8 [H,W] at the size of cfg.input_shape. Files that cannot be read are added to
    `skipped` {file: reason}; without it they are a UserError, as are a checkpoint that does not fit
    and an output that is not finite.
    """
    device = devices.select_for(cfg)
    if device.size > 1:
        raise UserError('--predict runs on one device; start it without a launcher')
    warn_without_effect(cfg, device.name)
    plan = restore.plan_restore(task, cfg, cfg.model_path)
    paths = [pathlib.Path(file) for file in files]
    decoded = _decoded(task, cfg, paths, skipped)
    first = next(decoded, None)
    if first is None:
        return []
    size = min(cfg.eval_batch_size, len(files))
    input_fn = _batches(cfg, itertools.chain([first], decoded), size)
    with temporary_folder('prediction') as scratch, tqdm.tqdm(
        total=len(files), unit=' images', disable=None, leave=False, dynamic_ncols=True
    ) as bar:
        predictions = _Predictions('' if is_dense(cfg) else task.offline.output_name + ':0', bar)
        estimator = device.estimator(evaluate.model_fn(task, cfg, plan.names), cfg, str(scratch))
        estimator.evaluate(input_fn, hooks=[predictions], checkpoint_path=plan.checkpoint.path)
    paths = [path for path in paths if str(path) not in (skipped or {})]
    for file, finite in zip(paths, predictions.finite):
        if not finite:
            raise UserError(
                "%s: the network's output is not finite; %s is damaged or diverged, use another"
                % (file, plan.checkpoint.path)
            )
    return list(zip(paths, predictions.rows))  # the rows that fill the last batch up have no file


def _decoded(
    task: Task, cfg: Any, files: List[pathlib.Path], skipped: Optional[Skipped]
) -> Iterator[np.ndarray]:
    for file in files:
        try:
            yield decode(task, cfg, file.read_bytes())
        except (OSError, ValueError) as error:
            reason = getattr(error, 'strerror', None) or str(error)
            if skipped is None:
                raise UserError('%s: %s' % (file, reason))
            skipped[str(file)] = reason


def decode(task: Task, cfg: Any, data: bytes) -> np.ndarray:
    """Returns an image file's content as evaluation sees it, uint8 of cfg.input_shape: the task's
    own preprocessing, else the whole image resized. ValueError for what is not an image.
    """
    if hasattr(task.data, 'decode'):
        return task.data.decode(data, cfg)
    height, width, _ = cfg.input_shape
    pixels = cv2.resize(images.decode(data), (width, height), interpolation=cv2.INTER_AREA)
    return pixels[..., ::-1] if getattr(cfg, 'bgr', False) else pixels


def _batches(cfg: Any, decoded: Iterator[np.ndarray], size: int) -> Callable[[], tf.data.Dataset]:
    """Returns the input_fn of an evaluation graph."""

    def pixels():
        yield from decoded
        for _ in range(size - 1):  # a device's shapes are static: the last batch is filled up
            yield np.zeros(cfg.input_shape, np.uint8)

    def features(image):
        label = tf.zeros(image.shape[:3], tf.uint8) if is_dense(cfg) else tf.zeros([size], tf.int32)
        return dict(image=image, label=label, mask=tf.zeros([size]), id=tf.zeros([size], tf.int32))

    def dataset():
        decoded = tf.data.Dataset.from_generator(pixels, tf.uint8, cfg.input_shape)
        return decoded.batch(size, drop_remainder=True).map(features).prefetch(2)

    return dataset


class _Predictions(tf.train.SessionRunHook):
    """Gathers what an evaluation graph predicts. rows: the tensor `name`, else the predicted class
    of each pixel; finite: whether the logits behind a row are.
    """

    def __init__(self, name: str, bar: tqdm.tqdm):
        self.rows: List[np.ndarray] = []
        self.finite: List[bool] = []
        self._name, self._bar = name, bar

    def before_run(self, run_context):
        counts = dict(tf.get_collection(evaluate.COUNTS))
        return tf.train.SessionRunArgs([self._name or counts['prediction'], counts['finite']])

    def after_run(self, run_context, run_values):
        rows, finite = run_values.results
        self.rows += list(rows)
        self.finite += list(finite)
        self._bar.update(len(rows))


def class_names(task: Task, cfg: Any, path: Optional[str] = None) -> List[str]:
    """Returns the names of the classes: the lines of the file `path`, else those in the
    dataset.json of --data_path, else the indices.
    """
    described = records.split_path(cfg.data_path, task.eval_split) / 'dataset.json'
    source, names = pathlib.Path(path or described), []
    try:
        if path:
            names = source.read_text('utf-8').splitlines()
        elif source.is_file():
            names = task.data.class_names(read_json(source), cfg)
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


def ranking(logits: np.ndarray, names: Sequence[str]) -> List[Dict[str, Any]]:
    """Returns the TOP likeliest classes, [{'class': index, 'name', 'probability'}]; equal ones by
    rising index, as top-k is counted.
    """
    logits = np.asarray(logits, np.float64)
    probabilities = np.exp(logits - logits.max())
    probabilities /= probabilities.sum()
    return [
        {'class': int(index), 'name': names[index], 'probability': float(probabilities[index])}
        for index in np.argsort(-logits, kind='stable')[:TOP]
    ]
