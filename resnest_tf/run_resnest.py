"""Trains or evaluates DeepLabV3-ResNeSt: `python run_resnest.py --help`.

The published port's flags work unchanged.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # run from any directory

from common.configuration import command_line
from resnest_tf.config import ResNeStConfig

if __name__ == '__main__':
    command_line.check(ResNeStConfig)
    from common import run  # after the check: importing TensorFlow takes seconds
    from resnest_tf.task import TASK

    run.main(TASK)
