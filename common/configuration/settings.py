"""Fields that every model's recipe has; a model folder's config.py adds its own."""

import dataclasses
import math
import pathlib
from typing import ClassVar, Dict, List, Mapping, Optional, TypeVar, Union

from typing_extensions import Literal

from common.ascend.options import NPUOptions
from common.configuration.fields import (
    NOT_ZERO,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    option,
)
from common.errors import UserError
from common.files import require_no_pattern

ConfigType = TypeVar('ConfigType', bound='Config')


@dataclasses.dataclass(frozen=True)
class Config(NPUOptions):
    """What every model shares. A model folder's config.py adds its own fields and `input_shape`.

    model: its name; aliases: {published flag: field}; default_recipe: read if there is no --config.
    input_shape: (height, width, channels) of the images that the network is given in evaluation.
    """

    do_train: bool = option(
        False,
        'True trains (and evaluates at the end), False evaluates --model_path',
        group='What to do',
    )
    data_path: str = option('./data', 'folder of TFRecords, or one that holds train/ and test/')
    image_num: Optional[PositiveInt] = option(
        None,
        'use the first N records, in training of the training split; more than there are is an'
        ' error',
    )
    output_path: Optional[str] = option(
        None, "the run's folder; evaluation writes beside the checkpoint by default"
    )
    data_url: Optional[str] = option(
        None, 'ModelArts: obs:// folder or zip that is copied in as --data_path'
    )
    train_url: Optional[str] = option(
        None, 'ModelArts: obs:// folder that the run is copied out to'
    )
    model_path: Optional[str] = option(
        None, 'checkpoint to evaluate or to start from; None trains from scratch'
    )
    reinit_head: bool = option(
        False,
        'initialise the classifier anew where its shape differs from --model_path',
        model_path=NOT_ZERO,
        do_train=(True,),
    )
    skip_corrupt: NonNegativeInt = option(
        0, 'leave out at most N corrupt records instead of stopping at the first'
    )
    restart: bool = option(
        False,
        'True moves an earlier run in --output_path aside and starts at step 0',
        do_train=(True,),
    )
    device: Literal['auto', 'cpu', 'gpu', 'npu'] = option(
        'auto', 'auto: npu where npu_bridge imports, else gpu where there is one, else cpu'
    )
    seed: NonNegativeInt = option(
        1, 'shuffling, augmentation, dropout and initial weights are functions of it', below=2**32
    )
    global_batch: Optional[PositiveInt] = option(
        None,
        'images per optimizer step over all devices; batch_size and accumulate then follow from'
        ' the number of devices',
        group='Length and batch',
    )
    batch_size: PositiveInt = option(
        128, 'images per device in one forward pass; with a global_batch: at most', most=65536
    )
    accumulate: PositiveInt = option(
        1, 'forward passes per optimizer step: batch_size x accumulate x devices images', most=65536
    )
    allow_other_batch: bool = option(
        False, 'train with batch_size x accumulate x devices images, whatever global_batch says'
    )
    scale_learning_rate: Literal['none', 'linear'] = option(
        'none', 'linear: the same, and learning_rate grows in proportion'
    )
    epochs: PositiveFloat = option(200.0, 'passes over the training records')
    steps: Optional[PositiveInt] = option(
        None, 'stop after N optimizer steps instead of after --epochs'
    )
    optimizer: Literal['momentum', 'sgd', 'adam', 'rmsprop', 'momentumw'] = option(
        'momentum', 'momentumw: decoupled weight decay', group='Optimizer'
    )
    momentum: NonNegativeFloat = option(
        0.9,
        'of momentum, momentumw and rmsprop',
        below=1,
        optimizer=('momentum', 'momentumw', 'rmsprop'),
    )
    nesterov: bool = option(False, "Nesterov's momentum", optimizer=('momentum', 'momentumw'))
    rmsprop_decay: NonNegativeFloat = option(
        0.9, 'decay of the squared gradient in rmsprop', below=1, optimizer=('rmsprop',)
    )
    epsilon: PositiveFloat = option(
        1e-8, 'denominator term of adam and rmsprop', optimizer=('adam', 'rmsprop')
    )
    weight_decay: NonNegativeFloat = option(
        0.0, 'L2 (its gradient is weight_decay x w); momentumw: w -= weight_decay x w a step'
    )
    weight_decay_rule: Literal['kernels', 'no_bn', 'all'] = option(
        'kernels',
        "what weight decay applies to; no_bn: all but batch norm's scales and offsets",
        weight_decay=NOT_ZERO,
    )
    clip_norm: NonNegativeFloat = option(0.0, 'clip the gradient to this global norm; 0: off')
    ema_decay: NonNegativeFloat = option(
        0.0, 'average the weights with this decay, evaluate and export the average; 0: off', below=1
    )
    freeze_bn: bool = option(False, 'batch norm uses its stored statistics in training too')
    learning_rate: PositiveFloat = option(0.1, 'base (peak) learning rate', group='Learning rate')
    schedule: Literal['constant', 'piecewise', 'exponential', 'cosine', 'polynomial', 'linear'] = (
        option('constant', 'after warm-up')
    )
    boundaries: List[float] = option(
        [], 'piecewise: epochs at which the rate changes', schedule=('piecewise',)
    )
    factors: List[float] = option(
        [],
        'piecewise: the rate from each boundary on, as a factor of learning_rate',
        least=0,
        schedule=('piecewise',),
    )
    decay_rate: PositiveFloat = option(0.94, 'exponential: factor', schedule=('exponential',))
    decay_epochs: PositiveFloat = option(
        2.0, 'exponential: epochs per factor', schedule=('exponential',)
    )
    staircase: bool = option(
        True, 'exponential: in steps instead of continuously', schedule=('exponential',)
    )
    power: PositiveFloat = option(0.9, 'polynomial: exponent', schedule=('polynomial',))
    end_factor: NonNegativeFloat = option(
        0.0,
        'cosine, polynomial, linear: the rate at the end, as a factor of learning_rate',
        schedule=('cosine', 'polynomial', 'linear'),
    )
    warmup_epochs: NonNegativeFloat = option(0.0, 'linear warm-up before the schedule')
    warmup_factor: NonNegativeFloat = option(
        0.0,
        'the rate at the first step of warm-up, as a factor of learning_rate',
        most=1,
        warmup_epochs=NOT_ZERO,
    )
    loss: Literal['cross_entropy', 'focal'] = option('cross_entropy', 'training loss', group='Loss')
    focal_gamma: NonNegativeFloat = option(
        2.0, 'focusing parameter of the focal loss', most=100, loss=('focal',)
    )
    label_smoothing: NonNegativeFloat = option(
        0.0, 'share of the target spread over all classes', below=1
    )
    precision: Literal['auto', 'float32', 'mixed'] = option(
        'auto',
        'mixed: float16 with loss scaling (gpu, npu); auto: mixed on npu, else float32',
        group='Precision',
    )
    loss_scale: Union[PositiveFloat, Literal['dynamic']] = option(
        'dynamic', 'of mixed precision: dynamic or a fixed factor', precision=('auto', 'mixed')
    )
    log_interval: PositiveInt = option(10, 'steps between log lines', group='Intervals')
    save_interval: PositiveFloat = option(1.0, 'epochs between checkpoints')
    save_checkpoints_steps: Optional[PositiveInt] = option(
        None, 'steps between checkpoints, instead of --save_interval'
    )
    keep_checkpoints: PositiveInt = option(5, 'latest checkpoints to keep, beside the best')
    eval_interval: NonNegativeFloat = option(
        1.0, 'epochs between evaluations while training; 0: only at the end'
    )
    published: Dict[str, Dict[str, float]] = option(
        {}, 'recipes only: {source: {metric: value}}', group='Published results'
    )

    model = ''
    aliases: ClassVar[Dict[str, str]] = {}
    default_recipe: ClassVar[Optional[pathlib.Path]] = None
    # Whether batch norm takes the images of all ranks: a field where a model supports it.
    sync_bn = False
    # {scope: factor} of variables whose learning rate differs; momentum and sgd only.
    rate_factors: ClassVar[Mapping[str, float]] = {}

    @property
    def eval_batch_size(self) -> int:
        """Images per device in evaluation."""
        return self.batch_size

    def resolve(self: ConfigType) -> ConfigType:
        """Returns the configuration with published spellings translated to the fields they mean."""
        return self

    def training_notes(self, ranks: int) -> List[str]:
        """Returns warnings for whoever starts this training; UserError for what cannot train."""
        return []

    def check_device(self, device: str) -> None:
        """Raises UserError for what 'cpu', 'gpu' or 'npu' cannot run."""

    def require_model_path(self) -> None:
        if not self.model_path:
            raise UserError(
                '--model_path is missing; give the checkpoint, such as runs/%s/model.ckpt-1000'
                % self.model
            )

    def check(self) -> None:
        """Raises UserError for values that are well typed but senseless; subclasses extend it."""
        if self.schedule == 'piecewise' and not 0 < len(self.factors) == len(self.boundaries):
            raise UserError(
                'schedule piecewise: it needs boundaries, and a factor for each; found boundaries'
                ' %s and factors %s' % (self.boundaries, self.factors)
            )
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, (int, float)):
                    self._check_number(field, number)
        if any(b <= a for a, b in zip([0, *self.boundaries], self.boundaries)):
            raise UserError('boundaries: %s must ascend, all above 0' % self.boundaries)
        if self.do_train:
            require_no_pattern('output_path', self.output_path or '')
        self.check_npu()
        if self.loss == 'focal' and self.label_smoothing:
            self.refuse('label_smoothing', 'loss focal has none; give 0')

    def _check_number(self, field: dataclasses.Field, number: float) -> None:
        least, most, below = (field.metadata[key] for key in ('least', 'most', 'below'))
        if isinstance(number, float) and not math.isfinite(number):
            self.refuse(field.name, 'it must be finite')
        if number < least:
            self.refuse(field.name, 'give at least %s' % least)
        if number > most:
            self.refuse(field.name, 'give at most %s' % most)
        if number >= below:
            self.refuse(field.name, '0 <= %s < %s' % (field.name, below))

    def refuse(self, name: str, rule: str) -> None:
        """Raises the UserError for a field whose value breaks a rule."""
        raise UserError('%s: %s is not legal; %s' % (name, getattr(self, name), rule))
