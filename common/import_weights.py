"""Converts weights from elsewhere into a checkpoint that --model_path takes:

    python -m common.import_weights --model xception --layout keras --weights xception.h5
    --output imported/xception.ckpt

A module of common/checkpoints/importers reads the file; the model's checkpoints.py says what the
names in it mean.
"""

import argparse
import importlib
import os
import pkgutil
from typing import Dict, List, Optional

import numpy as np
import tabulate

from common import models
from common.checkpoints import importers
from common.errors import Parser, UserError, entry_point


def _parse(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = Parser(prog='python -m common.import_weights', description=__doc__)
    parser.add_argument('--model', required=True, help='model folder without its _tf')
    layouts = [module.name for module in pkgutil.iter_modules(importers.__path__)]
    help_text = 'where the weights come from: %s' % ', '.join(layouts)
    parser.add_argument('--layout', required=True, choices=layouts, help=help_text)
    parser.add_argument('--weights', required=True, help='file to read')
    parser.add_argument(
        '--output', required=True, help='checkpoint prefix to write, e.g. imported/wideresnet.ckpt'
    )
    args = parser.parse_args(argv)
    models.config_class(args.model)  # UserError for a model that does not exist
    if not os.path.isfile(args.weights):
        raise UserError('--weights %s: no such file' % args.weights)
    return args


def table(variables: Dict[str, np.ndarray]) -> str:
    """Returns tensors and parameters by scope; batch norm's statistics are not parameters."""
    rows: Dict[str, List[int]] = {}
    for name, value in variables.items():
        row = rows.setdefault(name.split('/')[0], [0, 0])
        row[0] += 1
        row[1] += 0 if name.endswith(('/moving_mean', '/moving_variance')) else value.size
    rows['total'] = [sum(column) for column in zip(*rows.values())]
    lines = [[scope, count, '{:,}'.format(size)] for scope, (count, size) in rows.items()]
    align = ('left', 'right', 'right')
    return tabulate.tabulate(
        lines, ['scope', 'tensors', 'parameters'], 'plain', colalign=align, disable_numparse=True
    )


@entry_point
def main(argv: Optional[List[str]] = None) -> None:
    options = _parse(argv)
    from common.checkpoints import checkpoint  # it takes seconds

    layouts = models.find(options.model).checkpoints
    legal = sorted(name[len('from_') :] for name in dir(layouts) if name.startswith('from_'))
    if options.layout not in legal:
        raise UserError(
            '--layout %s: %s can import %s' % (options.layout, options.model, ', '.join(legal))
        )
    checkpoint.require_prefix(options.output, options.model + '.ckpt')
    importer = importlib.import_module('common.checkpoints.importers.' + options.layout)
    state = importer.read(options.weights)
    try:
        variables = getattr(layouts, 'from_' + options.layout)(state)
    except UserError as error:
        raise UserError('%s: %s' % (options.weights, error))
    checkpoint.write(options.output, variables)
    description = layouts.describe({name: value.shape for name, value in variables.items()})
    print('%s -> %s: %s\n%s' % (options.weights, options.output, description, table(variables)))


if __name__ == '__main__':
    main()
