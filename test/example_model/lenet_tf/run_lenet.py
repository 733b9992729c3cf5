"""Trains or evaluates LeNet: `python run_lenet.py --help`."""

from common import run
from lenet_tf.task import TASK

if __name__ == '__main__':
    run.main(TASK)
