"""Makes docs/overview.png, the picture of README.md, from two runs:

    python docs/make_overview.py runs/quickstart runs/scenes

Left the curves of the first run's report, right a street scene of the second one's samples.
"""

import pathlib
import sys

import cv2
import numpy as np


def main(curves, scenes):
    left = cv2.imread(str(pathlib.Path(curves) / 'plots' / 'training.png'))
    right = cv2.imread(str(sorted((pathlib.Path(scenes) / 'samples').glob('*.png'))[0]))
    height = 360
    parts = [
        cv2.resize(
            part, (part.shape[1] * height // part.shape[0], height), None, 0, 0, cv2.INTER_AREA
        )
        for part in (left, right)
    ]
    gap = np.full([height, 20, 3], 255, np.uint8)
    picture = np.concatenate([parts[0], gap, parts[1]], axis=1)
    cv2.imwrite(str(pathlib.Path(__file__).parent / 'overview.png'), picture)


if __name__ == '__main__':
    main(*sys.argv[1:])
