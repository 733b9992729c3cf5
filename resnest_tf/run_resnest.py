"""Trains or evaluates DeepLabV3-ResNeSt: `python run_resnest.py --help`.

The published port's flags work unchanged.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # run from any directory

from common.configuration import config  # noqa: E402
from resnest_tf.config import ResNeStConfig  # noqa: E402

if __name__ == '__main__':
    config.check_flags(ResNeStConfig)
    from common import run  # after the check: importing TensorFlow takes seconds
    from resnest_tf.task import TASK

    run.main(TASK)
