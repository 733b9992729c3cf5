"""Averages a run's last checkpoints: `python -m common.checkpoint average RUN_FOLDER --last 5
--output CKPT`.
"""

import argparse
import pathlib
from typing import Optional, Sequence

from common.errors import Parser, UserError, at_least, entry_point


def _parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(prog='python -m common.checkpoint', description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    command = commands.add_parser('average', help="average a run's last checkpoints")
    command.add_argument('run_folder')
    command.add_argument('--last', type=at_least(1), default=5, help='how many')
    command.add_argument('--output', required=True, help='prefix of the new checkpoint')
    return parser.parse_args(argv)


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    args = _parse(argv)
    from common.checkpoints import checkpoint  # it takes seconds

    checkpoints = checkpoint.training_checkpoints(args.run_folder)
    paths = [path for step, path in checkpoints if step > 0]  # at 0 the weights are random
    if len(paths) < args.last:
        raise UserError(
            '--last %d: %s has %d checkpoints of a trained network; keep more with'
            ' --keep_checkpoints' % (args.last, args.run_folder, len(paths))
        )
    checkpoint.require_prefix(args.output, 'average.ckpt')
    if pathlib.Path(args.output).name.startswith('model.ckpt-'):
        raise UserError(
            '--output %s: a run would resume from it; give another name, such as %s'
            % (args.output, pathlib.Path(args.run_folder, 'average.ckpt'))
        )
    chosen = paths[-args.last :]
    checkpoint.average(chosen, args.output)
    names = ', '.join(pathlib.Path(path).name for path in chosen)
    print('%s: the average of %s' % (args.output, names))


if __name__ == '__main__':
    main()
