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
from common import files
from common.data import preparation, record_writer
from common.errors import at_least, entry_point
from resnest_tf import street
from resnest_tf.scene import Scene

CITIES = {'train': 'drawnham', 'val': 'sketchford'}
FLAGS = {  # name: (default, least, most, help)
    'train': (480, 0, 10**6, 'scenes to train on'),
    'val': (60, 0, 10**6, 'scenes to validate on'),
    'height': (128, 32, 4096, 'in pixels'),
    'width': (256, 32, 8192, 'in pixels'),
    'seed': (1, 0, 2**32 - 1, 'another seed gives other scenes'),
}


def draw(
    seed: int, split: str, number: int, height: int, width: int
) -> Tuple[np.ndarray, np.ndarray]:
    """Returns (image uint8 BGR [height, width, 3], label ids uint8 [height, width])."""
    scene = Scene(np.random.RandomState([seed, list(CITIES).index(split), number]), height, width)
    street.draw(scene)
    return scene.photograph(), scene.ids


def write(folder: pathlib.Path, flags) -> None:
    """Writes leftImg8bit/ and gtFine/."""
    for split, city in CITIES.items():
        image = '{0}/leftImg8bit/{1}/{2}/{2}_000000_%06d_leftImg8bit.png'
        label = '{0}/gtFine/{1}/{2}/{2}_000000_%06d_gtFine_labelIds.png'
        pictures = [pathlib.Path(name.format(folder, split, city)) for name in (image, label)]
        for file in pictures:
            file.parent.mkdir(parents=True)
        for number in range(getattr(flags, split)):
            scene = draw(flags.seed, split, number, flags.height, flags.width)
            for file, pixels in zip(pictures, scene):
                data = cv2.imencode('.png', pixels)[1].tobytes()
                file.with_name(file.name % number).write_bytes(data)


@entry_point
def main(arguments: Optional[List[str]] = None) -> None:
    parser = preparation.Parser(
        'python -m resnest_tf.draw_scenes', __doc__, 'leftImg8bit/ and gtFine/'
    )
    for name, (default, least, most, text) in FLAGS.items():
        text += ' (default: %d)' % default
        parser.add_argument('--' + name, type=at_least(least, most), default=default, help=text)
    flags = parser.parse_args(arguments)
    record_writer.require_empty(flags.output)
    with files.atomic(flags.output) as folder:
        write(folder, flags)
    sys.stderr.write(
        '%s: %d scenes to train on, %d to validate on\n' % (flags.output, flags.train, flags.val)
    )


if __name__ == '__main__':
    main()
