"""Averages a run's last checkpoints: `python -m common.checkpoint average RUN_FOLDER --last 5
--output CKPT`.
"""

import argparse
import pathlib
from typing import Optional, Sequence

import tensorflow as tf

from common.checkpoints import checkpoint
from common.errors import UserError, entry_point


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(prog='python -m common.checkpoint', description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    command = commands.add_parser('average', help="average a run's last checkpoints")
    command.add_argument('run_folder')
    command.add_argument('--last', type=int, default=5, help='how many')
    command.add_argument('--output', required=True, help='prefix of the new checkpoint')
    args = parser.parse_args(argv)
    state = tf.train.get_checkpoint_state(args.run_folder)
    paths = list(state.all_model_checkpoint_paths) if state else []
    if args.last < 1 or len(paths) < args.last:
        raise UserError(
            '--last %d: %s has %d checkpoints; keep more with --keep_checkpoints'
            % (args.last, args.run_folder, len(paths))
        )
    checkpoint.average(paths[-args.last :], args.output)
    print(
        '%s: the average of %s'
        % (args.output, ', '.join(pathlib.Path(path).name for path in paths[-args.last :]))
    )


if __name__ == '__main__':
    main()
