"""Fields of an Xception recipe that common/configuration/settings.py lacks."""

import dataclasses
import pathlib
from typing import Optional, Tuple

from typing_extensions import Literal

from common.configuration.fields import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    option,
)
from common.configuration.settings import Config
from common.errors import UserError

SMALLEST = 71  # Keras's limit: blocks 13 and 14 then see 3x3 pixels


@dataclasses.dataclass(frozen=True)
class XceptionConfig(Config):
    model = 'xception'
    aliases = {'class_num': 'num_classes', 'epoch': 'epochs'}
    default_recipe = pathlib.Path(__file__).parent / 'configs' / 'xception_imagenet_port.yaml'
    num_classes: PositiveInt = option(1000, 'classes', group='Network', least=2, most=1000000)
    width: PositiveFloat = option(
        1.0, 'multiplies the number of filters; below 1 for small tasks and tests', most=16
    )
    dropout_rate: NonNegativeFloat = option(0.0, 'before the classifier (paper: 0.5)', below=1)
    bn_decay: NonNegativeFloat = option(
        0.99,
        "of batch norm's moving averages (Keras 0.99, MindSpore 0.9); lower it for runs of few"
        ' steps',
        below=1,
    )
    data_format: Literal['channels_last', 'channels_first'] = option(
        'channels_last', 'how the layers compute; channels_first is for gpu and npu'
    )
    image_size: PositiveInt = option(
        299,
        'images are made this many pixels high and wide; at least 71',
        group='Data',
        least=SMALLEST,
        most=4096,
    )
    train_preprocessing: Literal['random_resized_crop', 'plain'] = option(
        'random_resized_crop',
        'plain: the whole image, resized bilinearly without keeping its aspect, nothing random'
        ' (published port)',
    )
    eval_preprocessing: Literal['resize_crop', 'bicubic_crop', 'plain'] = option(
        'resize_crop',
        'resize_crop: shorter side to 320/299 of image_size, bilinear, centre crop (MindSpore);'
        " bicubic_crop: to 1/0.8975 of it, Pillow's bicubic (timm); plain: as in training"
        ' (published port)',
    )
    min_area: PositiveFloat = option(
        0.08,
        'random_resized_crop: smallest share of the image that a crop keeps',
        most=1,
        train_preprocessing=('random_resized_crop',),
    )
    flip: bool = option(
        True,
        'random_resized_crop: mirror every other image',
        train_preprocessing=('random_resized_crop',),
    )
    color_jitter: NonNegativeFloat = option(
        0.0,
        'largest change of brightness, contrast and saturation: factors of 1 +- this (MindSpore:'
        ' 0.4)',
        most=1,
    )
    label_offset: Optional[NonNegativeInt] = option(
        None,
        "the records' first label; None: as dataset.json says, else 1 in TF-slim's schema and 0 in "
        "the published port's",
    )

    @property
    def input_shape(self) -> Tuple[int, int, int]:
        return (self.image_size, self.image_size, 3)

    def check_device(self, device: str) -> None:
        if self.data_format == 'channels_first' and device == 'cpu':
            raise UserError(
                'data_format: channels_first needs --device gpu or npu, TensorFlow has no such'
                ' kernels for CPUs; give channels_last. A checkpoint fits both'
            )
