"""--show_batch: a batch of training images after augmentation; see command_line.py."""

import os
from typing import Any, List, Tuple

import numpy as np
import tensorflow as tf

from common.data import pipeline, records
from common.evaluation.errors import translated
from common.metrics.pictures import enlarged, save_png, sheet
from common.task import Task


def run(task: Task, cfg: Any, count: int) -> None:
    """Writes batch.png."""
    path = os.path.join(cfg.output_path or '', 'batch.png')
    folder = pipeline.open_split(task, cfg, task.train_split)
    save_png('--output_path', path, draw(task, cfg, folder, count))
    print(path)


def draw(task: Task, cfg: Any, folder: records.Folder, count: int) -> np.ndarray:
    """Returns the first `count` training images of the recipe's seed, as the network is trained on
    them, under their labels: uint8 RGB [H,W,3]. The labels of pixels lie over the image.
    """
    count = min(count, folder.count)
    host = tf.ConfigProto(device_count={'GPU': 0})  # the memory of GPUs is left to training
    with tf.Graph().as_default(), tf.Session(config=host) as session, translated(task, cfg):
        batch = pipeline.dataset(task, folder, cfg, count, True, seed=cfg.seed)
        features = tf.data.make_one_shot_iterator(batch).get_next()
        image = tf.cast(features['image'], tf.float32)
        features = task.data.augment(dict(features, image=image), cfg)
        arrays = session.run({key: features[key] for key in ('image', 'label')})
    pixels = np.clip(np.rint(arrays['image']), 0, 255).astype(np.uint8)
    pixels = pixels[..., ::-1] if getattr(cfg, 'bgr', False) else pixels
    names = task.data.class_names(folder.metadata, cfg)
    return sheet(_cells(pixels, arrays['label'], names, cfg), width=480)


def _cells(
    pixels: np.ndarray, labels: np.ndarray, names: List[str], cfg: Any
) -> List[Tuple[str, np.ndarray]]:
    if labels.ndim > 1:
        colours = cfg.labels.colours(labels)
        return [('', (image // 2 + colour // 2)) for image, colour in zip(pixels, colours)]
    captions = [names[label] if names else str(label) for label in labels]
    return list(zip(captions, map(enlarged, pixels)))
