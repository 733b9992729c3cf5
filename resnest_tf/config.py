"""Fields of a ResNeSt recipe that common/configuration/settings.py lacks."""

import dataclasses
import pathlib
from typing import Dict, List, Optional, Tuple

import numpy as np
from typing_extensions import Literal

from common.configuration.fields import NonNegativeFloat, PositiveFloat, PositiveInt, option
from common.configuration.settings import Config
from common.errors import UserError
from common.metrics.labels import Labels
from resnest_tf import cityscapes

SMALLEST = 32  # pixels of a side: the backbone halves it five times at output stride 32

# (2 x 36 + 2) rows of features, an eighth of the image, of 32 bytes a pixel fit in 1 MiB of L1,
# in the convolution and in the gradient of its kernel (CANN: conv2d_backprop_filter_d.py).
WIDEST_ON_NPU = 8 * 442
BATCH_NORM_IMAGES = 8  # that batch norm sees at a time in the published recipes


@dataclasses.dataclass(frozen=True)
class ResNeStConfig(Config):
    model = 'resnest'
    aliases = {
        'train_data': 'data_path',
        'model_save_dir': 'output_path',
        'pre_model': 'model_path',
        'is_training': 'do_train',
        'num_class': 'num_classes',
        'img_N': 'image_num',
    }
    default_recipe = pathlib.Path(__file__).parent / 'configs' / 'resnest50_cityscapes_port.yaml'
    depth: Literal[14, 26, 50, 101] = option(
        50, '50 and 101 are published; 14 and 26 are for small tasks and tests', group='Network'
    )
    width: PositiveFloat = option(
        1.0, 'multiplies the number of filters; below 1 for small tasks and tests', most=16
    )
    num_classes: PositiveInt = option(19, 'classes', least=2, most=255)
    variant: Literal['paper', 'mmsegmentation', 'port'] = option(
        'paper',
        "paper: the authors' network; mmsegmentation: with that library's head; port: the published"
        " Ascend port's",
    )
    image_pooling: List[int] = option(
        [],
        'height and width of the pooling window in pixels of the features, an eighth of the image;'
        ' []: the whole image',
    )
    dropout_rate: NonNegativeFloat = option(0.0, 'before the classifiers', below=1)
    head_rate_factor: PositiveFloat = option(
        1.0, "multiplies the learning rate of both heads (the authors' recipe: 10)"
    )
    aspp_dropout: NonNegativeFloat = option(
        0.0, 'share of the channels dropped after ASPP (variant paper; the authors: 0.5)', below=1
    )
    sync_bn: Optional[bool] = option(
        None, 'batch norm over the images of all devices; None: if there is more than one'
    )
    crop_height: PositiveInt = option(
        512, 'of the random crop', group='Training images', least=SMALLEST, most=8192
    )
    crop_width: PositiveInt = option(1024, 'of the random crop', least=SMALLEST, most=8192)
    min_scale: PositiveFloat = option(
        0.5, 'smallest factor that an image is scaled by before the crop'
    )
    max_scale: PositiveFloat = option(
        2.0, 'largest factor that an image is scaled by before the crop', most=16
    )
    crop_max_share: PositiveFloat = option(
        1.0,
        'draw a crop again, up to 10 times, of which one class fills this share or more; 1: off',
        most=1,
    )
    crop_fill: Literal['mean', 'black'] = option(
        'mean', 'colour beside an image that is smaller than the crop'
    )
    flip: bool = option(True, 'mirror every other image')
    photometric: bool = option(True, 'change brightness, contrast, saturation and hue at random')
    verify_records: bool = option(
        False, 'check a record each time it is read, not only the first time'
    )
    loss: Literal['cross_entropy', 'ohem', 'focal'] = option(
        'cross_entropy', 'training loss; ohem: cross entropy of the hardest pixels', group='Loss'
    )
    aux_weight: NonNegativeFloat = option(
        0.4, "share of the auxiliary head's loss; 0 leaves the head out (variant port has none)"
    )
    loss_average: Literal['all', 'labelled'] = option(
        'all', 'pixels whose number the mean loss divides by; the others add nothing'
    )
    ohem_threshold: PositiveFloat = option(
        0.7,
        'ohem: pixels whose class has at least this probability are easy',
        most=1,
        loss=('ohem',),
    )
    ohem_min_kept: PositiveInt = option(
        100000, 'ohem: at least so many pixels an image count, easy or not', loss=('ohem',)
    )
    image_height: PositiveInt = option(
        1024,
        'of the images that are evaluated, and of the exported model',
        group='Evaluation',
        least=SMALLEST,
        most=8192,
    )
    image_width: PositiveInt = option(
        2048,
        'of the images that are evaluated, and of the exported model',
        least=SMALLEST,
        most=8192,
    )
    eval_mode: Literal['whole', 'slide'] = option(
        'whole', 'slide: in overlapping windows of the size of a crop'
    )
    slide_stride: PositiveFloat = option(
        2 / 3, 'slide: share of a window from one to the next', most=1, eval_mode=('slide',)
    )
    eval_scales: List[float] = option(
        [1.0], 'average over the image at these scales, such as [0.5,0.75,1,1.25,1.5,1.75]', most=8
    )
    eval_flip: bool = option(False, 'average over the mirrored image as well')
    save_predictions: Optional[str] = option(
        None,
        'folder for the predictions of an evaluation: labelIds/ (as the Cityscapes scorer takes'
        ' them), color/, overlay/',
    )
    img_H: Optional[PositiveInt] = option(
        None,
        "published port's: --crop_height in training, --image_height in evaluation",
        group='Flags of the published port',
    )
    img_W: Optional[PositiveInt] = option(
        None, "published port's: --crop_width in training, --image_width in evaluation"
    )

    @property
    def labels(self) -> Labels:
        """What the values of labels mean: Cityscapes' classes, else numbered ones."""
        if self.num_classes == len(cityscapes.CLASSES):
            return Labels(
                cityscapes.CLASSES, cityscapes.IGNORE, cityscapes.PALETTE, cityscapes.LABEL_IDS
            )
        numbers = range(self.num_classes)
        names = ['class %d' % number for number in numbers]
        return Labels(names, cityscapes.IGNORE, cityscapes.PALETTE, np.array(numbers, np.uint8))

    @property
    def bgr(self) -> bool:
        """Whether images reach the network as BGR: the published port was trained on that."""
        return self.variant == 'port'

    @property
    def rate_factors(self) -> Dict[str, float]:
        if self.head_rate_factor == 1:
            return {}
        scopes = ['Conv_%d' % number for number in range(64, 72)]
        if self.variant != 'port':
            scopes = ['head', 'auxiliary']
        return dict.fromkeys(scopes, self.head_rate_factor)

    eval_batch_size = 1  # an image of 1024 x 2048 has 160 MB of logits

    @property
    def input_shape(self) -> Tuple[int, int, int]:
        return (self.image_height, self.image_width, 3)

    def resolve(self) -> 'ResNeStConfig':
        changes = {}
        for alias, dimension in (('img_H', 'height'), ('img_W', 'width')):
            if getattr(self, alias):
                changes[('crop_' if self.do_train else 'image_') + dimension] = getattr(self, alias)
                changes[alias] = None
        # The port names the checkpoint, whose folder is the run's.
        if self.output_path and self.output_path.endswith('.ckpt'):
            changes['output_path'] = str(pathlib.Path(self.output_path).parent)
        return dataclasses.replace(self, **changes)

    def training_notes(self, ranks: int) -> List[str]:
        if self.freeze_bn:
            return []
        images = self.batch_size * (1 if self.sync_bn is False else ranks)
        if images == 1:
            raise UserError(
                'batch_size: 1 image at a time cannot train: batch norm after a global pooling'
                ' needs at least 2; give --batch_size 2 or more, --sync_bn True on several devices,'
                ' or --freeze_bn True'
            )
        if images >= BATCH_NORM_IMAGES:
            return []
        return [
            'batch norm sees %d images at a time; published results take %d or more, with fewer the'
            ' mIoU falls by points. Raise --batch_size or the number of devices%s; --accumulate'
            ' does not help'
            % (images, BATCH_NORM_IMAGES, ' with --sync_bn True' if self.sync_bn is False else '')
        ]

    def check(self) -> None:
        super().check()
        if self.aspp_dropout and self.variant != 'paper':
            self.refuse('aspp_dropout', 'give 0, or variant paper, which alone has it')
        if self.variant == 'port' and self.depth != 50:
            self.refuse('depth', "the port's network has depth 50; give 50, or variant paper")
        if len(self.image_pooling) not in (0, 2) or any(side < 1 for side in self.image_pooling):
            self.refuse(
                'image_pooling',
                'give [height, width] in pixels of the features, such as [33, 65], or [] for the'
                ' whole image',
            )
        if self.variant == 'port' and self.image_pooling not in ([], [7, 7]):
            self.refuse('image_pooling', 'variant port pools over [7, 7]; leave it out')
        if self.min_scale > self.max_scale:
            self.refuse('min_scale', 'it is above max_scale, %g' % self.max_scale)
        if self.loss == 'ohem' and self.label_smoothing:
            self.refuse('label_smoothing', 'loss ohem has none; give 0')
        if self.head_rate_factor != 1 and self.optimizer not in ('momentum', 'sgd'):
            self.refuse('head_rate_factor', 'give 1, or optimizer momentum or sgd')
        shortest = min(self.image_height, self.image_width)
        if not self.eval_scales or min(self.eval_scales) * shortest < SMALLEST:
            self.refuse(
                'eval_scales',
                'give at least one, and none that makes a side shorter than %d pixels' % SMALLEST,
            )

    def check_device(self, device: str) -> None:
        if device != 'npu':
            return
        why = 'on an Ascend device %s: a convolution of rate 36 would leave its L1 buffer'
        slides = self.eval_mode == 'slide'
        if not slides and max(self.eval_scales) * self.image_width > WIDEST_ON_NPU:
            scale = int(100 * WIDEST_ON_NPU / self.image_width) / 100
            legal = 'at most %.2f for images %d pixels wide' % (scale, self.image_width)
            self.refuse('eval_scales', why % legal + '; or give --eval_mode slide')
        if (self.do_train or slides) and self.crop_width > WIDEST_ON_NPU:
            self.refuse('crop_width', why % ('at most %d' % WIDEST_ON_NPU))
