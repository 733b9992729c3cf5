"""Turns weights from elsewhere into a checkpoint that --model_path takes:

    python -m common.import_weights --model wideresnet --layout torch --weights model.pt7 --output
    imported/wideresnet.ckpt python -m common.import_weights --model xception --layout keras
    --weights xception.h5 --output imported/xception.ckpt

The file is read by common/importers/<layout>.py and translated by from_<layout>() of
<model>_tf/checkpoints.py.
"""

import argparse
import collections
import importlib
import os
import types
from typing import Dict, List, Optional

import numpy as np

from common import models
from common.checkpoints import checkpoint
from common.errors import UserError, entry_point, suggest


def layouts_of(model: str, layout: str) -> types.ModuleType:
    """Returns <model>_tf.checkpoints. Raises UserError if it has no from_<layout>()."""
    module = models.find(model).checkpoints
    layouts = sorted(name[len('from_') :] for name in dir(module) if name.startswith('from_'))
    if layout not in layouts:
        raise UserError(
            '--layout %s: %s can import %s%s'
            % (layout, model, ', '.join(layouts), suggest(layout, layouts))
        )
    return module


def table(variables: Dict[str, np.ndarray]) -> str:
    """Returns tensors and parameters by top-level scope. Batch-norm statistics are tensors but not
    parameters.
    """
    rows = collections.OrderedDict()
    for name, value in variables.items():
        row = rows.setdefault(name.split('/')[0], [0, 0])
        row[0] += 1
        row[1] += 0 if name.endswith(('/moving_mean', '/moving_variance')) else value.size
    rows['total'] = [sum(column) for column in zip(*rows.values())]
    return '\n'.join(
        ['%-24s %8s %12s' % ('scope', 'tensors', 'parameters')]
        + [
            '%-24s %8d %12s' % (scope, tensors, '{:,}'.format(parameters))
            for scope, (tensors, parameters) in rows.items()
        ]
    )


@entry_point
def main(arguments: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        prog='python -m common.import_weights', description=__doc__.split('\n')[0][:-1]
    )
    parser.add_argument('--model', required=True, help='model folder without its _tf')
    parser.add_argument('--layout', required=True, help='where the weights come from: torch, keras')
    parser.add_argument('--weights', required=True, help='file to read')
    parser.add_argument(
        '--output', required=True, help='checkpoint prefix to write, e.g. imported/wideresnet.ckpt'
    )
    options = parser.parse_args(arguments)

    layouts = layouts_of(options.model, options.layout)
    if os.path.isdir(options.output) or options.output.endswith(os.sep):
        raise UserError(
            '--output %s is a folder: name a checkpoint in it, e.g. %s'
            % (options.output, os.path.join(options.output, options.model + '.ckpt'))
        )
    state = importlib.import_module('common.checkpoints.importers.' + options.layout).read(
        options.weights
    )
    try:
        variables = getattr(layouts, 'from_' + options.layout)(state)
    except UserError as error:
        raise UserError('%s: %s' % (options.weights, error))
    checkpoint.write(options.output, variables)
    description = layouts.describe({name: value.shape for name, value in variables.items()})
    print('%s -> %s: %s\n%s' % (options.weights, options.output, description, table(variables)))


if __name__ == '__main__':
    main()
