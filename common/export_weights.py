"""Loads a checkpoint of training, on however many devices, and saves its network alone for one
device, as the published ports' "premodel":

    python -m common.export_weights --model resnest --config C --model_path RUN/model.ckpt-1000
    --output premodel/resnest.ckpt

Optimizer slots and variables without effect are left out, averaged weights take the place of those
they average. Every other flag is one of the model's configuration.
"""

import argparse
import os
from typing import Any, Optional, Sequence, Tuple

from common import models
from common.configuration import config
from common.errors import Parser, UserError, entry_point


def _parse(argv: Optional[Sequence[str]] = None) -> Tuple[argparse.Namespace, Any]:
    parser = Parser(prog='python -m common.export_weights', description=__doc__)
    parser.add_argument('--model', required=True, help='wideresnet, ...: a folder MODEL_tf')
    parser.add_argument(
        '--output', required=True, help='checkpoint prefix to write, such as premodel/resnest.ckpt'
    )
    args, flags = parser.parse_known_args(argv)
    cfg = config.parse(models.config_class(args.model), flags, parser.flags)
    cfg.require_model_path()
    return args, cfg


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    args, cfg = _parse(argv)
    from common.checkpoints import checkpoint, restore  # they take seconds

    task = models.find(args.model)
    checkpoint.require_prefix(args.output, task.final_checkpoint)
    plan = restore.plan_restore(task, cfg, cfg.model_path, training=True)
    if os.path.abspath(args.output) == os.path.abspath(plan.checkpoint.path):
        raise UserError('--output %s is the checkpoint itself; give another' % args.output)
    restore.export(plan, args.output)
    print('%s\n%s: %d variables, weights only' % (plan.report, args.output, len(plan.names)))


if __name__ == '__main__':
    main()
