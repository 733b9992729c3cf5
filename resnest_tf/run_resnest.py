"""Trains or evaluates DeepLabV3-ResNeSt: `python run_resnest.py --help`. The published port's flags
work unchanged.
"""

import pathlib
import sys

sys.path.insert(
    0, str(pathlib.Path(__file__).resolve().parent.parent)
)  # so that it runs from any directory

from common.training import experiment  # noqa: E402
from resnest_tf.task import ResNeSt  # noqa: E402

if __name__ == '__main__':
    experiment.run(ResNeSt)
