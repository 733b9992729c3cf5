"""The checkpoint layouts of wide residual networks: whose variables are these, and which flags fit
them?

Layouts are told apart by variable names alone. Whatever else a training checkpoint holds (optimizer
slots, moving averages, global_step, beta1_power) is overlooked, because it never has the name of a
model's variable.
"""

import re
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from common.checkpoints.importers import account
from common.errors import UserError, some

_LAYOUTS = {  # layout: (value of --variant, whose graph it is)
    'ours-paper': ('paper', "the paper's graph"),
    'ours-mindspore': ('mindspore', "the MindSpore model zoo's graph"),
    'port': ('port', "the published port's graph"),
}


class Description(NamedTuple):
    """What a checkpoint holds; str() is the phrase for an error: "a WRN-28-10 with 100 classes of
    ...; use --variant ...".
    """

    layout: str
    variant: str
    depth: int
    widen_factor: int
    num_classes: int

    def __str__(self) -> str:
        return (
            'a WRN-%d-%d with %d classes of %s; use --variant %s --depth %d --widen_factor %d'
            % (
                self.depth,
                self.widen_factor,
                self.num_classes,
                _LAYOUTS[self.layout][1],
                self.variant,
                self.depth,
                self.widen_factor,
            )
        )


def layout_of(names: Iterable[str]) -> str:
    """Returns 'ours-paper', 'ours-mindspore', 'port' or 'unknown' for a checkpoint's variable
    names.
    """
    names = set(names)
    if {'stem/conv/kernel', 'group1/block1/conv1/kernel', 'output/kernel'} <= names:
        return 'ours-mindspore' if 'stem/bn/gamma' in names else 'ours-paper'
    # Other networks are numbered by tf.layers as well; biased convs and a classifier called
    # `output` are this one's.
    if {'conv2d/kernel', 'conv2d/bias', 'batch_normalization/gamma', 'output/kernel'} <= names:
        return 'port'
    return 'unknown'


def describe(names: Iterable[str], shapes: Mapping[str, Sequence[int]]) -> Optional[Description]:
    """Returns depth, widen factor and classes of a checkpoint, or None if it is no (whole) wide
    residual network.

    Args:
      names: the variable names.
      shapes: name -> shape, of the same variables.
    """
    names = set(names)
    layout = layout_of(names)
    if layout == 'unknown':
        return None
    if layout == 'port':  # two batch norms a block, three groups, one in the head: 6n+1
        batch_norms = sum(
            1 for name in names if re.fullmatch(r'batch_normalization(_\d+)?/gamma', name)
        )
        blocks, rest = divmod(batch_norms - 1, 6)
        first_conv = 'conv2d_1/kernel'
    else:
        blocks, rest = divmod(
            sum(1 for name in names if re.fullmatch(r'group\d+/block\d+/conv1/kernel', name)), 3
        )
        first_conv = 'group1/block1/conv1/kernel'
    kernel, classifier = shapes.get(first_conv, ()), shapes.get('output/kernel', ())
    if rest or blocks < 1 or len(kernel) != 4 or kernel[3] % 16 or len(classifier) != 2:
        return None
    return Description(layout, _LAYOUTS[layout][0], 6 * blocks + 4, kernel[3] // 16, classifier[1])


def from_torch(
    state: Dict[str, np.ndarray], depth: Optional[int] = None, widen_factor: Optional[int] = None
) -> Dict[str, np.ndarray]:
    """Translates a state dict of the paper's authors' PyTorch code to the variables of variant
    'paper'.

    Args:
      state: the tensors of their model.pt7: conv0, group0.block0.conv0, ..., bn.weight, fc.weight
      (kernels OIHW).
      depth, widen_factor: what the state must be; None reads it from the state.
    Returns:
      Our variable names -> float32 arrays (kernels HWIO).
    Raises:
      UserError: naming the tensors, if any is missing, left over or of another shape.
    """
    blocks = 1 + max(
        [
            int(match.group(1))
            for match in map(re.compile(r'group\d+\.block(\d+)\.').match, state)
            if match
        ]
        or [-1]
    )
    kernel = state.get('group0.block0.conv0')
    if blocks < 1 or kernel is None or kernel.ndim != 4 or 'fc.weight' not in state:
        raise UserError(
            "no wide residual network of the authors' PyTorch code: it would have conv0,"
            ' group0.block0.conv0 and fc.weight, found %s' % some(state)
        )
    if kernel.shape[0] % 16:
        raise UserError(
            'group0.block0.conv0 has %d filters: widen factors are whole numbers here, so it must'
            ' be a multiple of 16' % kernel.shape[0]
        )
    found = (6 * blocks + 4, kernel.shape[0] // 16)
    asked = (depth or found[0], widen_factor or found[1])
    if asked != found:
        raise UserError(
            'the PyTorch weights are of a WRN-%d-%d, asked for is a WRN-%d-%d: use --depth %d'
            ' --widen_factor %d' % (found + asked + found)
        )

    tensors = _torch_tensors(blocks, found[1], len(state['fc.weight']))
    arrays = account(
        state,
        {theirs: shape for theirs, _, shape in tensors},
        'the PyTorch weights do not make a WRN-%d-%d' % found,
    )
    return {
        ours: arrays[theirs].transpose(2, 3, 1, 0) if len(shape) == 4 else arrays[theirs].T
        for theirs, ours, shape in tensors
    }


def _torch_tensors(
    blocks: int, widen_factor: int, num_classes: int
) -> List[Tuple[str, str, Tuple[int, ...]]]:
    """(their name, our name, their shape) of every tensor: kernels OIHW, the classifier [classes,
    features].
    """

    def norm(theirs, ours, size):
        return [
            ('%s.%s' % (theirs, leaf), '%s/%s' % (ours, name), (size,))
            for leaf, name in [
                ('weight', 'gamma'),
                ('bias', 'beta'),
                ('running_mean', 'moving_mean'),
                ('running_var', 'moving_variance'),
            ]
        ]

    tensors = [('conv0', 'stem/conv/kernel', (16, 3, 3, 3))]
    width = 16
    for group in range(3):
        for block in range(blocks):
            theirs, ours = (
                'group%d.block%d' % (group, block),
                'group%d/block%d' % (group + 1, block + 1),
            )
            filters = 16 * widen_factor * 2**group
            tensors += norm(theirs + '.bn0', ours + '/bn1', width)
            tensors += [(theirs + '.conv0', ours + '/conv1/kernel', (filters, width, 3, 3))]
            tensors += norm(theirs + '.bn1', ours + '/bn2', filters)
            tensors += [(theirs + '.conv1', ours + '/conv2/kernel', (filters, filters, 3, 3))]
            if width != filters:
                tensors += [
                    (theirs + '.convdim', ours + '/shortcut/kernel', (filters, width, 1, 1))
                ]
            width = filters
    return (
        tensors
        + norm('bn', 'head/bn', width)
        + [
            ('fc.weight', 'output/kernel', (num_classes, width)),
            ('fc.bias', 'output/bias', (num_classes,)),
        ]
    )
