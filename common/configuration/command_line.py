"""The command line of a run script: training and evaluation, --predict, or --show_batch."""

import argparse
import sys
from typing import Sequence, Tuple, Type

from common.configuration import config
from common.configuration.settings import ConfigType
from common.errors import Parser, UserError, at_least, entry_point

_PREDICT = """Predicts image files, with any model's run script:

    python xception_tf/run_xception.py --predict cat.jpg folder/ --model_path CKPT [--class_names
    FILE] [flags of the run]

A classifier prints each image's likeliest classes and writes predictions.csv. A segmentation
writes labelIds/, color/ and overlay/ PNGs of each image's own size, and contact_sheet.png. Both
write predictions.json. All goes to --output_path, by default the checkpoint's folder. Files that
cannot be read are named and left out; the exit status is then 1.
"""
_SHOW_BATCH = """Draws a batch of training images after augmentation, with any model's run script:

    python xception_tf/run_xception.py --show_batch 16 --data_path DATA [flags of the run]

Writes batch.png to --output_path, by default the current folder.
"""


@entry_point
def check(config_class: Type[ConfigType]) -> None:
    """Ends the process with one line if its command line is wrong, before TensorFlow is imported,
    which takes seconds.
    """
    parse(config_class, sys.argv[1:])


def parse(
    config_class: Type[ConfigType], argv: Sequence[str]
) -> Tuple[argparse.Namespace, ConfigType]:
    """Returns the flags of --predict or --show_batch, if one of them is given, and the
    configuration. UserError for a mistake.
    """
    flag_names = [word.split('=')[0] for word in argv]
    if '--predict' in flag_names:
        parser = Parser(description=_PREDICT)
        parser.add_argument('--predict', nargs='+', metavar='PATH', help='image files and folders')
        parser.add_argument(
            '--class_names',
            metavar='FILE',
            help='text with one name a line; default: those in the dataset.json of --data_path',
        )
    elif '--show_batch' in flag_names:
        parser = Parser(description=_SHOW_BATCH)
        parser.add_argument('--show_batch', type=at_least(1), metavar='N', help='images')
    else:
        cfg = config.parse(config_class, argv, ['--predict', '--show_batch'])
        if not cfg.do_train and not cfg.model_path:
            raise UserError(
                '--model_path: evaluation needs a checkpoint; to train, give --do_train True'
            )
        return argparse.Namespace(), cfg
    if '-h' in argv or '--help' in argv:  # argparse would want the value of --predict first
        parser.print_help()
        sys.exit(0)
    options, flags = parser.parse_known_args(argv)
    if 'predict' not in options:
        return options, config.parse(config_class, flags, parser.flags)
    # A run's config.yaml says True.
    cfg = config.parse(config_class, ['--do_train', 'False', *flags], parser.flags)
    if cfg.do_train or not cfg.model_path:
        raise UserError('--predict needs a checkpoint, --model_path CKPT, and no --do_train True')
    if options.class_names and hasattr(cfg, 'labels'):
        raise UserError('--class_names is for classifiers; %s labels pixels' % cfg.model)
    return options, cfg
