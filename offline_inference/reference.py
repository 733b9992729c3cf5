"""The checkpoint's own network on the evaluation split: what every engine is compared with."""

import contextlib
import dataclasses
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from common import devices
from common.checkpoints.restore import RestorePlan, plan_restore, saved_variables
from common.configuration.config import LOCAL
from common.configuration.settings import Config
from common.data import pipeline, records, sampling
from common.files import checksum
from common.task import Task
from offline_inference import manifest

# infer: images of a batch [N,H,W,C], normalised float32 or uint8 -> logits [N,...,classes].
Infer = Callable[[np.ndarray], np.ndarray]
_WITHOUT_EFFECT = (*LOCAL, 'image_num', 'device')  # on what a graph computes


class Batch(NamedTuple):
    """One batch of the split, padded to its full size."""

    features: Dict[str, np.ndarray]  # as parsed: image uint8 [N,H,W,C], mask [N], label
    images: np.ndarray  # normalised, float32 [N,H,W,C]
    logits: Optional[np.ndarray] = None  # of the checkpoint, float32 [N,...,classes]

    def input(self, input_dtype: str) -> np.ndarray:
        """The images for a model with this type of input."""
        return self.features['image'] if input_dtype == 'uint8' else self.images


class Reference:
    """A model under one configuration with, if there is one, a checkpoint that fits it.

    Attributes: task; cfg; name; output_name; plan (how the checkpoint is restored, None without
    one); input_shape, [N,H,W,C] of one batch; normalization, (mean, deviation) of each channel in
    0..255, or None if it is not affine.
    """

    def __init__(self, task: Task, cfg: Config, plan: Optional[RestorePlan] = None):
        self.task, self.cfg, self.plan = task, cfg, plan
        self._split: Optional[records.Folder] = None
        self.name, self.output_name = task.name, task.offline.output_name
        self.input_shape = [cfg.batch_size] + list(cfg.input_shape)
        self.normalization = task.offline.normalization(cfg)

    @classmethod
    def restored(cls, task: Task, cfg: Config) -> 'Reference':
        """With the checkpoint --model_path; UserError if it is missing or does not fit."""
        cfg.require_model_path()
        return cls(task, cfg, plan_restore(task, cfg, cfg.model_path))

    @property
    def checksum(self) -> str:
        """SHA-256 of the checkpoint's index, which holds checksums of all values."""
        return checksum(self.plan.checkpoint.path + '.index')

    def description(self, input_dtype: str) -> Dict[str, Any]:
        """Returns what a graph made of this computes, for the manifest."""
        fields = dataclasses.asdict(self.cfg).items()
        return dict(
            model=self.name,
            checkpoint=self.checksum,
            configuration=manifest.digest({k: v for k, v in fields if k not in _WITHOUT_EFFECT}),
            normalization=self.normalization,
            input_shape=self.input_shape,
            input_dtype=input_dtype,
        )

    @property
    def split(self) -> records.Folder:
        """The evaluation split, opened at its first use."""
        if self._split is None:
            self._split = pipeline.open_split(self.task, self.cfg, self.task.eval_split)
        return self._split

    def dataset(self) -> tf.data.Dataset:
        """The split in order, in full batches."""
        return pipeline.dataset(self.task, self.split, self.cfg, self.cfg.batch_size, False)

    def normalize(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 -> float32, in the graph."""
        return self.task.data.normalize(images, self.cfg)

    def network(self, images: tf.Tensor) -> tf.Tensor:
        """Normalised images -> logits."""
        return self.task.build(images, self.cfg)

    def logits_shape(self) -> List[int]:
        """[N,...,classes] of one batch."""
        with tf.Graph().as_default():
            return self.network(tf.placeholder(tf.float32, self.input_shape)).shape.as_list()

    def counts(self, logits: np.ndarray, features: Dict[str, np.ndarray]) -> Dict[str, Any]:
        """Sums from which `figures` follow, of one batch."""
        return self.task.metric.offline_counts(logits, features, self.cfg)

    def figures(self, counts: Dict[str, Any]) -> Dict[str, Any]:
        return self.task.metric.figures(counts, self.cfg)

    def session_config(self) -> tf.ConfigProto:
        """The GPU's with --device gpu, else the CPU's, on an Ascend host too: float16 there would
        hide what a comparison looks for.
        """
        return devices.select('gpu' if self.cfg.device == 'gpu' else 'cpu').session_config()

    def session(self) -> tf.Session:
        """Returns a session of the default graph, its variables restored from the checkpoint."""
        session = tf.Session(config=self.session_config())
        saver = tf.train.Saver(saved_variables(self.plan.names))
        saver.restore(session, self.plan.checkpoint.path)
        return session

    def batches(self, first: int = 0, count: int = -1, real: bool = True) -> Iterator[Batch]:
        """Runs `count` batches (-1: all) of the split from batch `first` on, or of random images,
        through the network as evaluation builds it. Without a checkpoint there are no logits.
        """
        with tf.Graph().as_default():
            dataset = self.dataset() if real else _noise(self.input_shape)
            iterator = tf.data.make_initializable_iterator(dataset.skip(first).take(count))
            features = iterator.get_next()
            images = self.normalize(features['image'])
            fetches = [features, images] + ([self.network(images)] if self.plan else [])
            session = self.session() if self.plan else tf.Session(config=self.session_config())
        with contextlib.closing(session):
            session.run(iterator.initializer)
            while True:
                try:
                    values = session.run(fetches)
                except tf.errors.OutOfRangeError:
                    return
                except tf.errors.OpError as error:
                    raise records.user_error(error) or error
                yield Batch(*values)


def _noise(shape: List[int]) -> tf.data.Dataset:
    """An endless sequence of random batches, the same each time."""

    @sampling.as_written
    def batch(number: tf.Tensor) -> Dict[str, tf.Tensor]:
        images = tf.random.stateless_uniform(shape, [0, number], maxval=256)
        return {'image': tf.cast(images, tf.uint8), 'mask': tf.ones(shape[:1])}

    return tf.data.Dataset.range(1 << 62).map(batch)
