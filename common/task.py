"""Task: the one object that a model hands to `common`, which never asks which model it is."""

import abc
import collections
import importlib
import pathlib
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from common import config, devices
from common.data import records, sampling
from common.errors import UserError, suggest

Features = Dict[str, tf.Tensor]


class Task(abc.ABC):
    """Network, data, loss, metrics and names of one model under one configuration.

    Class attributes that a model sets:
      name: 'wideresnet'; its folder is NAME_tf.
      final_checkpoint: file name of the final, weights-only checkpoint; NAME.ckpt unless it is set.
      config_class, aliases ({published flag: field}), default_recipe (read when there is no
      --config).
      output_name: the inference graph's output, e.g. 'output/BiasAdd'; the input is always
      'inputx'.
      train_split, eval_split: folders below --data_path.
      heads: scopes of the classifiers, which --reinit_head may leave out of a warm start.
      best_metric: key of metrics() by which the best checkpoint is kept, higher is better.
      atc_precision_mode: what ATC must be told for the model to keep its accuracy; None: its
      default, force_fp16.
      swap_channels: normalize() reverses the order of the channels.
    """

    name: str
    config_class: type
    aliases: Dict[str, str] = {}
    default_recipe: pathlib.Path
    output_name: str
    heads: Sequence[str]
    train_split, eval_split = 'train', 'test'
    best_metric = 'top1'
    atc_precision_mode: Optional[str] = None
    swap_channels = False
    draws = 0  # uniform numbers per record and epoch that augmentation takes

    def __init__(self, cfg):
        self.cfg = cfg
        self._variables: Dict[bool, Dict[str, List[int]]] = {}

    @property
    def final_checkpoint(self) -> str:
        return self.name + '.ckpt'

    @property
    @abc.abstractmethod
    def input_shape(self) -> Tuple[int, int, int]:
        """(height, width, channels) of one input image."""

    @abc.abstractmethod
    def parse(self, batch: Features, folder: records.Folder, training: bool) -> Features:
        """On the host: turns a batch of `sampling.batches` into {'image': uint8 [B,H,W,C], 'label':
        int32, 'mask': float32 [B], ...}.
        """

    @abc.abstractmethod
    def normalize(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 or float [B,H,W,C] in 0..255 -> the network's float32 input. The first op on the
        device; export may keep or drop it.
        """

    def affine_normalization(self) -> Optional[Tuple[List[float], List[float]]]:
        """(mean, deviation) of each channel, after the swap, in units of 0..255, if normalize() is
        (x - mean) / deviation; None if it is not.
        """
        return None

    def augment(self, features: Features) -> Features:
        """On the device, training only: takes and returns features whose image is float32 in
        0..255.
        """
        return features

    @abc.abstractmethod
    def network(
        self,
        images: tf.Tensor,
        training: bool,
        dropout: Optional[Callable] = None,
        device: Optional[devices.Device] = None,
    ) -> Any:
        """Normalised float32 images -> logits; in training, what `loss` takes.

        dropout(x, rate, index) is stateless. device: its ranks may share batch norm's statistics;
        None: this process trains alone.
        """

    @abc.abstractmethod
    def loss(self, outputs: Any, features: Features) -> tf.Tensor:
        """Training loss of what `network` gave: float32 scalar, mean over the batch."""

    def warnings(self, folder: records.Folder, device: devices.Device) -> List[str]:
        """What whoever starts this training should know. UserError for what cannot work."""
        return []

    @property
    def eval_batch_size(self) -> int:
        """Images per device in evaluation."""
        return self.cfg.batch_size

    def inference(self, images: tf.Tensor) -> tf.Tensor:
        """Normalised images -> the logits that evaluation scores: the network's, unless a task
        averages several views.
        """
        return self.network(images, False)

    @abc.abstractmethod
    def counts(self, logits: tf.Tensor, features: Features) -> Dict[str, tf.Tensor]:
        """What evaluation brings to the host of each batch, for `tally`. Masked records count
        nothing.
        """

    def tally(
        self, folder: records.Folder, is_chief: bool
    ) -> Callable[[Dict[str, np.ndarray]], Dict[str, np.ndarray]]:
        """What turns the `counts` of one batch into sums that add up over batches and ranks;
        nothing to do if they are sums.
        """
        return lambda counts: counts

    @abc.abstractmethod
    def offline_counts(
        self, logits: np.ndarray, features: Dict[str, np.ndarray]
    ) -> Dict[str, np.ndarray]:
        """`counts` in NumPy, of logits that another engine made; features as `parse` makes them."""

    @abc.abstractmethod
    def metrics(self, counts: Dict[str, np.ndarray]) -> Dict[str, float]:
        """Summed counts -> figures, e.g. {'images': 10000, 'loss': .., 'top1': .., 'top5': ..}."""

    @abc.abstractmethod
    def eval_line(self, metrics: Dict[str, float]) -> str:
        """The line that evaluation prints, in the published port's form."""

    def explain_checkpoint(self, shapes: Dict[str, Sequence[int]]) -> str:
        """Says what a checkpoint that does not fit is, by its variables: a hint for the error
        message.
        """
        return ''

    def may_be_missing(self, shapes: Dict[str, Sequence[int]]) -> Sequence[str]:
        """Scopes that training from this checkpoint initialises anew because it has nothing of them
        by design.
        """
        return ()

    def dead(self, shapes: Dict[str, Sequence[int]]) -> List[str]:
        """Variables of this checkpoint that had no effect where it comes from."""
        return []

    def folder(self, split: str) -> records.Folder:
        """Opens and validates the split's records; --image_num takes the first N, of the training
        split if that is trained on.
        """
        folder = records.Folder.open(
            records.split_path(self.cfg.data_path, split), self.cfg.skip_corrupt
        )
        wanted = self.cfg.image_num
        if wanted is not None and not (self.cfg.do_train and split == self.eval_split):
            if wanted > folder.count:
                raise UserError(
                    '--image_num %d: %s holds %d records; give at most that, or leave the flag out'
                    % (wanted, folder.path, folder.count)
                )
            folder.count = wanted
        return folder

    def dataset(
        self, folder: records.Folder, batch_size: int, training: bool, **position: Any
    ) -> tf.data.Dataset:
        """Batches of features; `position` as in sampling.batches (seed, rank, size, start_step,
        steps).
        """
        batches = sampling.batches(
            folder, batch_size, training=training, draws=self.draws if training else 0, **position
        )
        return batches.map(
            lambda batch: self.parse(batch, folder, training), num_parallel_calls=2
        ).prefetch(2)

    def input_baselines(self, folder: records.Folder) -> Dict[str, Callable[[], tf.data.Dataset]]:
        """Pipelines to measure `dataset` against, by name: infinite batches of cfg.batch_size with
        a 'label'. For common.benchmark.
        """
        return {}

    def variables(self, training: bool = False) -> Dict[str, List[int]]:
        """{name: shape} of the network's variables, weights and batch-norm statistics, in creation
        order.

        training: with those that only training has, as an auxiliary head's.
        """
        if training not in self._variables:  # building the graph takes a second
            with tf.Graph().as_default():
                self.network(
                    tf.placeholder(tf.float32, (1,) + tuple(self.input_shape)),
                    training,
                    lambda x, rate, index: x,
                )
                self._variables[training] = collections.OrderedDict(
                    (v.op.name, v.shape.as_list()) for v in tf.global_variables()
                )
        return self._variables[training]


def find(name: str) -> type:
    """Returns the Task class of a model: `TASK` in NAME_tf/task.py."""
    root = pathlib.Path(__file__).resolve().parent.parent
    names = sorted(path.parent.name[: -len('_tf')] for path in root.glob('*_tf/task.py'))
    if name not in names:
        raise UserError(
            'unknown model %r; legal: %s%s' % (name, ', '.join(names), suggest(name, names))
        )
    return importlib.import_module(name + '_tf.task').TASK


def build(name: str, argv: Sequence[str]) -> Task:
    """Returns the model's Task under the configuration that `argv` (flags, --config) describes."""
    task_class = find(name)
    cfg = config.parse(
        task_class.config_class,
        argv,
        task_class.name,
        task_class.aliases,
        task_class.default_recipe,
    )
    return task_class(cfg)
