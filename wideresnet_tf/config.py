"""Fields of a WideResNet recipe that common/configuration/settings.py lacks."""

import dataclasses
import pathlib

from typing_extensions import Literal

from common.configuration.fields import (
    NOT_ZERO,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    option,
)
from common.configuration.settings import Config


@dataclasses.dataclass(frozen=True)
class WideResNetConfig(Config):
    model = 'wideresnet'
    aliases = {'depths': 'depth', 'ks': 'widen_factor', 'epoch': 'epochs'}
    default_recipe = pathlib.Path(__file__).parent / 'configs' / 'wrn28_10_cifar100_port.yaml'
    depth: PositiveInt = option(28, 'layers: 6n+4', group='Network', most=1204)
    widen_factor: PositiveInt = option(10, 'k: the groups have 16k, 32k and 64k filters', most=100)
    num_classes: PositiveInt = option(100, 'classes', least=2, most=1000000)
    variant: Literal['paper', 'port', 'mindspore'] = option(
        'paper', 'which published graph; see model.py'
    )
    dropout_rate: NonNegativeFloat = option(
        0.0, 'in every block; see the model files for the place (paper: 0.3)', below=1
    )
    label: Literal['fine_label', 'coarse_label'] = option(
        'fine_label',
        "feature that holds the label; coarse_label: CIFAR-100's 20 superclasses",
        group='Data',
    )
    normalization: Literal['authors', 'mindspore', 'cifar10', 'cifar100', 'per_image', 'half'] = (
        option(
            'cifar100',
            "mean and deviation of the channels: the paper's authors', the MindSpore model zoo's,"
            ' those of a data set, per image, or x/127.5-1',
        )
    )
    crop_pad: NonNegativeInt = option(
        4, 'pixels of padding on each side before the random 32x32 crop; 0: no crop', most=31
    )
    crop_padding: Literal['zero', 'reflect'] = option(
        'zero', 'what the padding holds (paper: reflect)', crop_pad=NOT_ZERO
    )
    flip: bool = option(True, 'mirror every other image')
    brightness: NonNegativeFloat = option(
        0.0, 'largest change of brightness, of 255 (published port: 63)', most=255
    )
    contrast: NonNegativeFloat = option(
        0.0, 'largest change of contrast: a factor of 1 +- this (published port: 0.8)', most=1
    )
    cutout: NonNegativeInt = option(0, 'side of the square that is cut out; 0: off', most=32)
    mixup: NonNegativeFloat = option(
        0.0, 'alpha of the Beta distribution that images are mixed with; 0: off', most=1000
    )

    input_shape = (32, 32, 3)

    def check(self) -> None:
        super().check()
        if self.depth < 10 or (self.depth - 4) % 6:
            lower = max(10, self.depth - (self.depth - 4) % 6)
            self.refuse(
                'depth',
                'a wide residual network has 6n+4 layers, at least 10; the nearest are %d and %d'
                % (lower, max(16, lower + 6)),
            )
        if self.loss == 'focal' and self.mixup:
            self.refuse('mixup', 'loss focal has one label an image; give 0')
