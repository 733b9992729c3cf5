"""What a model hands over: a Task, which names its configuration and its modules of functions.

A configuration `cfg` (a configuration.settings.Config) travels beside the task and is passed to
every function. PROTOCOL says what each module must offer. Where the model supports it, there are
also:

data.decode(data, cfg)                an image file's bytes -> uint8 [H,W,C] as evaluation sees it
data.baselines(folder, cfg)           {name: () -> tf.data.Dataset}, pipelines to benchmark against
checkpoints.from_torch(state), from_keras(layers)
                                      the weights that can be imported
"""

import dataclasses
import inspect
import types
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from common.errors import UserError

# {what of a Task: its members}; a function with the names of its arguments.
PROTOCOL = {
    # The fields of a recipe and what follows from them.
    'config': ('num_classes', 'input_shape'),
    # Reads the records of one data set and prepares the images.
    'data': (
        'DRAWS',  # uniform numbers in [0, 1) that augmentation takes per record
        # On the host: a batch of data.sampling.batches -> features
        # {'image': uint8 [B,H,W,C], 'label', 'mask': float32 [B], ...}.
        'parse(batch, folder, cfg, training)',
        'augment(features, cfg)',  # on the device, in training: image float32 in 0..255
        'normalize(images, cfg)',  # 0..255, uint8 or float [B,H,W,C] -> the float32 input
        'class_names(metadata, cfg)',  # by a dataset.json's content; [] if it does not say
    ),
    # One published graph: normalised float32 images -> what metric.loss takes; without training the
    # logits, made by the op task.offline.output_name. dropout(x, rate, index of the layer) -> x;
    # batch_norm(x, name, decay, epsilon, training) -> x. The last three default to False, None and
    # None.
    'models': ('build(images, cfg, training, dropout, batch_norm)',),
    # What is optimised and what is measured.
    'metric': (
        'BEST',  # the figure by which the best checkpoint is kept
        'loss(outputs, features, cfg)',  # float32 scalar, the mean over the batch
        # {name: tensor} that evaluation fetches for each batch ('finite' [B]; of label maps
        # 'prediction' uint8 [B,H,W]).
        'counts(logits, features, cfg)',
        'accumulator(cfg, folder, is_chief)',  # turns those of a batch into sums, {name: array}
        'offline_counts(logits, features, cfg)',  # the same in NumPy, of another engine's logits
        'figures(sums, cfg)',  # {'images': .., 'loss': .., 'top1': .., ...}
        'eval_line(name, figures)',  # that evaluation prints, in the published port's form
    ),
    # Whose variables are these, and which flags fit them?
    'checkpoints': (
        'classifier_scopes(cfg)',  # scopes that --reinit_head may initialise anew
        'describe(shapes)',  # what a checkpoint holds, a checkpoints.description, or None
    ),
}

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

    config: Any
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
        """Builds the graph of the configured variant; see PROTOCOL."""
        return self.models[getattr(cfg, 'variant', 'paper')].build(images, cfg, **options)

    def check(self) -> None:
        """Raises UserError if the model lacks something that PROTOCOL names."""
        for part, members in PROTOCOL.items():
            modules = getattr(self, part)
            for module in modules.values() if part == 'models' else [modules]:
                for member in members:
                    if not _has(module, member):
                        name = getattr(module, '__module__', getattr(module, '__name__', part))
                        raise UserError(
                            '%s_tf: %s has no %s; common/task.py says what a model must offer'
                            % (self.name, name, member)
                        )


def _has(module: Any, member: str) -> bool:
    name, _, arguments = member.rstrip(')').partition('(')
    if not arguments:
        return hasattr(module, name)
    try:
        inspect.signature(getattr(module, name)).bind(**dict.fromkeys(arguments.split(', ')))
    except (AttributeError, TypeError):
        return False
    return True


Features = Dict[str, Any]
