"""Trains or evaluates Xception, or classifies images (--predict): `python run_xception.py --help`.
The published port's flags work unchanged.
"""

import pathlib
import sys

sys.path.insert(
    0, str(pathlib.Path(__file__).resolve().parent.parent)
)  # so that it runs from any directory

from common.training import experiment  # noqa: E402
from xception_tf.task import Xception  # noqa: E402

if __name__ == '__main__':
    experiment.run(Xception)
