"""What a model hands over: constants and modules of functions.

A configuration `cfg` (a configuration.settings.Config) travels beside the task and is passed to
every function. The functions that a module must offer are written down here;
test/common/test_task.py checks them.

data: reads the records of one data set and prepares the images.
    DRAWS                             uniform numbers in [0, 1) that augmentation takes per record
    parse(batch, folder, cfg, training)
                                      on the host: a batch of data.sampling.batches -> features
                                      {'image': uint8 [B,H,W,C], 'label', 'mask': float32 [B], ...}
    augment(features, cfg)            on the device, in training: image float32 in 0..255
    normalize(images, cfg)            0..255, uint8 or float [B,H,W,C] -> the float32 input
    class_names(metadata, cfg)        names by a dataset.json's content; [] if it does not say
  and, where the model supports it:
    decode(data, cfg)                 an image file's bytes -> uint8 [H,W,C] as evaluation sees it
    baselines(folder, cfg)            {name: () -> tf.data.Dataset}, pipelines to benchmark against

model: one published graph.
    build(images, cfg, training=False, dropout=None, batch_norm=None)
                                      normalised float32 images -> what metric.loss takes; without
                                      training the logits, made by the op task.offline.output_name.
                                      dropout(x, rate, index of the layer) -> x;
                                      batch_norm(x, name, decay, epsilon, training) -> x

metric: what is optimised and what is measured.
    BEST                              the figure by which the best checkpoint is kept
    loss(outputs, features, cfg)      float32 scalar, the mean over the batch
    counts(logits, features, cfg)     {name: tensor} that evaluation fetches for each batch
                                      ('finite' [B]; of label maps 'prediction' uint8 [B,H,W])
    accumulator(cfg, folder, is_chief)
                                      what turns those of a batch into sums, {name: array}
    offline_counts(logits, features, cfg)
                                      the same sums in NumPy, of logits that another engine made
    figures(sums, cfg)                {'images': .., 'loss': .., 'top1': .., ...}
    eval_line(name, figures)          the line that evaluation prints, in the published port's form

checkpoints: whose variables are these, and which flags fit them?
    classifier_scopes(cfg)            scopes that --reinit_head may initialise anew
    describe(shapes)                  what a checkpoint holds, see checkpoints.description; None if
                                      unknown
  and from_torch(state), from_keras(layers) for the weights that can be imported.
"""

import dataclasses
import types
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

Normalization = Optional[Tuple[List[float], List[float]]]


class Offline(NamedTuple):
    """What the offline path has to know of a model.

    output_name: the op of the logits, such as 'output/BiasAdd'; the input is always 'inputx'.
    normalization(cfg): (mean, deviation) of each channel in units of 0..255 if data.normalize is
      (x - mean) / deviation, else None.
    precision_mode: what ATC must be told to keep the accuracy; None: its default, force_fp16.
    """

    output_name: str
    normalization: Callable[[Any], Normalization]
    precision_mode: Optional[str] = None


def whole_image(network: Callable, images: Any, cfg: Any) -> Any:
    """Returns the network's own logits: evaluation without test-time augmentation."""
    return network(images)


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """One model: its configuration, its modules and its names.

    config: the class of its configuration. name: 'wideresnet'; its folder is NAME_tf.
    models: {variant: module}; the configuration's `variant` chooses.
    inference(network, images, cfg): what evaluation scores; network(images) -> logits.
    train_split, eval_split: folders below --data_path.
    """

    config: type
    data: types.ModuleType
    models: Mapping[str, types.ModuleType]
    metric: types.ModuleType
    checkpoints: types.ModuleType
    offline: Offline
    inference: Callable = whole_image
    train_split: str = 'train'
    eval_split: str = 'test'
    final_checkpoint: str = ''

    def __post_init__(self):
        if not self.final_checkpoint:
            object.__setattr__(self, 'final_checkpoint', self.name + '.ckpt')

    @property
    def name(self) -> str:
        return self.config.model

    def build(self, images: Any, cfg: Any, **options: Any) -> Any:
        """Builds the graph of the configured variant; see `model` above."""
        return self.models[getattr(cfg, 'variant', 'paper')].build(images, cfg, **options)


Features = Dict[str, Any]
