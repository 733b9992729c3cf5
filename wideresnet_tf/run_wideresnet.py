"""Trains or evaluates WideResNet: `python run_wideresnet.py --help`.

The published port's flags work unchanged.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # run from any directory

from common.configuration import command_line
from wideresnet_tf.config import WideResNetConfig

if __name__ == '__main__':
    command_line.check(WideResNetConfig)
    from common import run  # after the check: importing TensorFlow takes seconds
    from wideresnet_tf.task import TASK

    run.main(TASK)
