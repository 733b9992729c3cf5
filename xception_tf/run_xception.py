"""Trains or evaluates Xception, or classifies images (--predict): `python run_xception.py --help`.

The published port's flags work unchanged.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # run from any directory

from common.configuration import command_line
from xception_tf.config import XceptionConfig

if __name__ == '__main__':
    command_line.check(XceptionConfig)
    from common import run  # after the check: importing TensorFlow takes seconds
    from xception_tf.task import TASK

    run.main(TASK)
