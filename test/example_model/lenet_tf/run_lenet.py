"""Trains or evaluates LeNet: `python run_lenet.py --help`."""

from common.configuration import command_line
from lenet_tf.config import LeNetConfig

if __name__ == '__main__':
    command_line.check(LeNetConfig)
    from common import run  # after the check: importing TensorFlow takes seconds
    from lenet_tf.task import TASK

    run.main(TASK)
