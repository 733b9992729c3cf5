"""Drawn street scenes in the folders, files and label ids of Cityscapes: a data set that needs no
download and trains in minutes.

    python -m resnest_tf.draw_scenes --output data/scenes
    python -m resnest_tf.prepare_cityscapes --source data/scenes --output data/scenes_records
    --allow_partial

A street in perspective with houses, trees, poles, cars and people - eight of the 19 classes - in
the light of some hour of some day; the bonnet and litter bins are not scored. A scene is a function
of (seed, split, number).
"""

import pathlib
import sys
from typing import List, Optional, Tuple

import cv2
import numpy as np

if not __package__:  # run as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import files  # noqa: E402
from common.data import preparation  # noqa: E402
from common.errors import UserError, entry_point  # noqa: E402
from resnest_tf import street  # noqa: E402
from resnest_tf.scene import Scene  # noqa: E402

CITIES = {'train': 'drawnham', 'val': 'sketchford'}
LIMITS = {
    'train': (0, 10**6),
    'val': (0, 10**6),
    'height': (32, 4096),
    'width': (32, 8192),
    'seed': (0, 2**32 - 1),
}


def draw(
    seed: int, split: str, number: int, height: int, width: int
) -> Tuple[np.ndarray, np.ndarray]:
    """Returns (image uint8 [height, width, 3] in BGR order, label ids uint8 [height, width]): the
    same for the same arguments.
    """
    scene = Scene(np.random.RandomState([seed, list(CITIES).index(split), number]), height, width)
    street.draw(scene)
    return scene.photograph(), scene.ids


def write(folder: pathlib.Path, flags) -> None:
    """Writes leftImg8bit/ and gtFine/."""
    for split, city in CITIES.items():
        places = [
            (folder / kind / split / city, ending)
            for kind, ending in (('leftImg8bit', 'leftImg8bit'), ('gtFine', 'gtFine_labelIds'))
        ]
        for place, _ in places:
            place.mkdir(parents=True)
        for number in range(getattr(flags, split)):
            scene = draw(flags.seed, split, number, flags.height, flags.width)
            for (place, ending), pixels in zip(places, scene):
                file = place / ('%s_000000_%06d_%s.png' % (city, number, ending))
                file.write_bytes(cv2.imencode('.png', pixels)[1].tobytes())


@entry_point
def main(arguments: Optional[List[str]] = None) -> None:
    parser = preparation.Parser(
        'python -m resnest_tf.draw_scenes', __doc__, 'leftImg8bit/ and gtFine/'
    )
    for name, default, text in (
        ('train', 480, 'scenes to train on'),
        ('val', 60, 'scenes to validate on'),
        ('height', 128, 'in pixels'),
        ('width', 256, 'in pixels'),
        ('seed', 1, 'another seed gives other scenes'),
    ):
        text = '%s (default: %d)' % (text, default)
        parser.add_argument('--' + name, type=int, default=default, help=text)
    flags = parser.parse_args(arguments)
    for name, (low, high) in LIMITS.items():
        if not low <= getattr(flags, name) <= high:
            raise UserError(
                '--%s: found %d, legal are %d to %d' % (name, getattr(flags, name), low, high)
            )
    if flags.output.exists() and (not flags.output.is_dir() or any(flags.output.iterdir())):
        raise UserError(
            '--output %s already exists and is not empty; remove it or name another folder'
            % flags.output
        )
    with files.atomic(flags.output) as folder:
        write(folder, flags)
    sys.stderr.write(
        '%s: %d scenes to train on, %d to validate on\n' % (flags.output, flags.train, flags.val)
    )


if __name__ == '__main__':
    main()
