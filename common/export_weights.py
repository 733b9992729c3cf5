"""Loads a checkpoint of training, on however many devices, and saves its network alone for one
device, as the published ports' "premodel":

    python -m common.export_weights --model resnest --config C --model_path RUN/model.ckpt-1000
    --output premodel/resnest.ckpt

Optimizer slots and variables without effect are left out, averaged weights take the place of those
they average. Every other flag is one of the model's configuration.
"""

import os
import sys
from typing import Optional, Sequence

from common import models
from common.checkpoints import checkpoint, restore
from common.errors import Parser, UserError, entry_point


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = Parser(prog='python -m common.export_weights', description=__doc__)
    parser.add_argument('--model', required=True, help='wideresnet, ...: a folder MODEL_tf')
    parser.add_argument(
        '--output', required=True, help='checkpoint prefix to write, such as premodel/resnest.ckpt'
    )
    args, flags = parser.parse_known_args(sys.argv[1:] if argv is None else argv)
    task, cfg = models.configure(args.model, flags)
    if not cfg.model_path:
        raise UserError(
            '--model_path is missing; give the checkpoint to load, such as runs/%s/model.ckpt-1000'
            % task.name
        )
    checkpoint.require_prefix(args.output, task.final_checkpoint)
    plan = restore.plan_restore(task, cfg, cfg.model_path, training=True)
    if os.path.abspath(args.output) == os.path.abspath(plan.checkpoint.path):
        raise UserError('--output %s is the checkpoint itself; give another' % args.output)
    restore.export(plan, args.output)
    print('%s\n%s: %d variables, weights only' % (plan.report, args.output, len(plan.names)))


if __name__ == '__main__':
    main()
