"""Makes docs/overview.jpg, the picture of README.md, from two runs:

    python docs/make_overview.py docs/results/wrn16_2_digits-1 docs/results/resnest14_scenes-5

Left the curves of the first run's report, right a street scene from the second one's samples.
"""

import pathlib
import sys

import cv2
import numpy as np

HEIGHT = 400


def main(curves, scenes):
    left = cv2.imread(str(pathlib.Path(curves) / 'plots' / 'training.png'))
    sample = cv2.imread(str(sorted((pathlib.Path(scenes) / 'samples').glob('*.png'))[0]))
    # Image, truth, prediction and overlay, each with the margin on its left.
    image, truth, prediction, overlay = np.split(sample[:, :-8], 4, axis=1)
    right = np.vstack([np.hstack([image, truth]), np.hstack([prediction, overlay])])
    parts = [
        cv2.resize(
            part, (part.shape[1] * HEIGHT // part.shape[0], HEIGHT), None, 0, 0, cv2.INTER_AREA
        )
        for part in (left, right)
    ]
    path = str(pathlib.Path(__file__).parent / 'overview.jpg')
    cv2.imwrite(path, np.hstack(parts), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == '__main__':
    main(*sys.argv[1:])
