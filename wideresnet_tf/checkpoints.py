"""The checkpoints of wide residual networks: who published them, which flags fit them, and how the
paper's authors name variables. Variable names alone tell graphs apart.
"""

import re
from typing import Dict, Mapping, Optional, Sequence

import numpy as np
import tensorflow as tf

from common.checkpoints.description import Description
from common.checkpoints.importers import select_tensors
from common.checkpoints.importers.torch import TORCH_NAMES, to_tensorflow, torch_shape
from common.checkpoints.restore import variable_shapes
from common.errors import UserError, first_few
from wideresnet_tf import model
from wideresnet_tf.config import WideResNetConfig

_PUBLISHERS = {
    'paper': "the paper's graph",
    'mindspore': "the MindSpore model zoo's graph",
    'port': "the published port's graph",
}


def describe(shapes: Mapping[str, Sequence[int]]) -> Optional[Description]:
    """Returns what a checkpoint holds, or None unless it is a whole wide residual network.

    shapes: {variable name: shape}.
    """
    if {'stem/conv/kernel', 'group1/block1/conv1/kernel', 'output/kernel'} <= set(shapes):
        variant = 'mindspore' if 'stem/bn/gamma' in shapes else 'paper'
        convs = _count(shapes, r'group\d+/block\d+/conv1/kernel')
        blocks, remainder = divmod(convs, 3)
        kernel = shapes['group1/block1/conv1/kernel']
    # Other networks are numbered by tf.layers as well; biased convs and a classifier called
    # `output` are this one's.
    elif {'conv2d/bias', 'conv2d_1/kernel', 'output/kernel'} <= set(shapes):
        variant = 'port'
        norms = _count(shapes, r'batch_normalization(_\d+)?/gamma')
        blocks, remainder = divmod(norms - 1, 6)  # two a block of three groups; one in the head
        kernel = shapes['conv2d_1/kernel']
    else:
        return None
    classifier = shapes['output/kernel']
    if remainder or blocks < 1 or len(kernel) != 4 or kernel[3] % 16 or len(classifier) != 2:
        return None
    depth, widen_factor, num_classes = 6 * blocks + 4, kernel[3] // 16, classifier[1]
    summary = 'a WRN-%d-%d with %d classes of ' % (depth, widen_factor, num_classes)
    flags = dict(variant=variant, depth=depth, widen_factor=widen_factor, num_classes=num_classes)
    return Description(summary + _PUBLISHERS[variant], flags)


def _count(names, pattern: str) -> int:
    return sum(1 for name in names if re.fullmatch(pattern, name))


def classifier_scopes(cfg: WideResNetConfig) -> Sequence[str]:
    """The scopes that --reinit_head may initialise anew."""
    return ('output',)


def from_torch(state: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Translates a state dict of the paper's authors' PyTorch code to the variables of variant
    'paper'.

    Args:
      state: their model.pt7: conv0, group0.block0.conv0, ..., bn.weight, fc.weight (kernels OIHW).
    Returns:
      Our variable names -> float32 arrays (kernels HWIO).
    Raises:
      UserError: naming the tensors, if any is missing, left over or of another shape.
    """
    kernel, classifier = state.get('group0.block0.conv0'), state.get('fc.weight')
    if kernel is None or kernel.ndim != 4 or classifier is None:
        raise UserError(
            "not a wide residual network of the authors' PyTorch code: that would have conv0,"
            ' group0.block0.conv0 and fc.weight, found %s' % first_few(state)
        )
    if kernel.shape[0] % 16:
        raise UserError(
            'group0.block0.conv0 has %d filters; it must be a multiple of 16, as widen factors are'
            ' whole numbers' % kernel.shape[0]
        )
    blocks = [re.match(r'group\d\.block(\d+)\.', name) for name in state]
    last = max(int(block.group(1)) for block in blocks if block)
    cfg = WideResNetConfig(
        depth=6 * (last + 1) + 4, widen_factor=kernel.shape[0] // 16, num_classes=len(classifier)
    )
    shapes = variable_shapes(lambda: model.build(tf.placeholder(tf.float32, [1, 32, 32, 3]), cfg))
    arrays = select_tensors(
        state,
        {_torch_name(name): torch_shape(shape) for name, shape in shapes.items()},
        'the PyTorch weights do not make a WRN-%d-%d' % (cfg.depth, cfg.widen_factor),
    )
    return {name: to_tensorflow(arrays[_torch_name(name)]) for name in shapes}


_LAYERS = {'bn1': 'bn0', 'conv1': 'conv0', 'bn2': 'bn1', 'conv2': 'conv1', 'shortcut': 'convdim'}
_OTHERS = {'stem/conv/kernel': 'conv0', 'output/kernel': 'fc.weight', 'output/bias': 'fc.bias'}


def _torch_name(name: str) -> str:
    """The authors' name of a variable."""
    if name in _OTHERS:
        return _OTHERS[name]
    layer, tensor = name.rsplit('/', 1)
    suffix = '' if tensor == 'kernel' else '.' + TORCH_NAMES[tensor]  # a conv is its kernel alone
    if layer == 'head/bn':
        return 'bn' + suffix
    group, block, layer = re.fullmatch(r'group(\d)/block(\d+)/(\w+)', layer).groups()
    return 'group%d.block%d.%s%s' % (int(group) - 1, int(block) - 1, _LAYERS[layer], suffix)
