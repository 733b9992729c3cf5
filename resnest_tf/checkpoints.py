"""The checkpoint layouts of DeepLabV3-ResNeSt: whose variables are these, and which flags fit them?

Layouts are told apart by variable names alone; whatever else a training checkpoint holds (optimizer
slots, averages, global_step) is overlooked. A backbone is the paper's network without its heads:
what `from_torch` makes of ImageNet weights.
"""

import re
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from common.checkpoints.importers import account
from common.errors import UserError, some
from resnest_tf import backbone

HEADS = ('head', 'auxiliary')  # scopes of the paper's variant that are not its backbone
_LAYOUTS = {'ours': 'paper', 'backbone': 'paper', 'port': 'port'}  # layout: value of --variant
_DEAD = frozenset(
    'Conv_%d' % (4 * block + 1) for block in range(16)
)  # the second conv of each of the port's blocks


class Description(NamedTuple):
    """What a checkpoint holds; str() is the phrase for an error: "a DeepLabV3-ResNeSt-50 with 19
    classes of ...; use --variant ...".
    """

    layout: str
    variant: str
    depth: int
    width: float
    num_classes: Optional[int]  # None: a backbone
    aux_head: bool

    def __str__(self) -> str:
        flags = '--variant %s --depth %d' % (self.variant, self.depth) + (
            ' --width %g' % self.width if self.width != 1 else ''
        )
        if self.layout == 'backbone':
            return (
                "a ResNeSt-%d backbone of the paper's graph, without head: to train one on it, use"
                ' %s --do_train True' % (self.depth, flags)
            )
        whose = "the published port's graph" if self.layout == 'port' else "the paper's graph"
        return 'a DeepLabV3-ResNeSt-%d with %d classes of %s; use %s --num_classes %d' % (
            self.depth,
            self.num_classes,
            whose,
            flags,
            self.num_classes,
        )


def layout_of(names: Iterable[str]) -> str:
    """Returns 'ours', 'backbone', 'port' or 'unknown' for a checkpoint's variable names."""
    names = set(names)
    if {'stem/conv1/kernel', 'stage1/block1/split/conv1/kernel'} <= names:
        return 'ours' if 'head/logits/kernel' in names else 'backbone'
    return (
        'port'
        if {'conv1_1/weights', 'resnest1_0/Conv/weights', 'Conv_71/weights'} <= names
        else 'unknown'
    )


def describe(shapes: Mapping[str, Sequence[int]]) -> Optional[Description]:
    """Returns depth, width and classes of a checkpoint, or None if it is no (whole) ResNeSt of a
    depth that can be built.

    shapes: {variable name: shape}.
    """
    names = set(shapes)
    layout = layout_of(names)
    if layout == 'unknown':
        return None
    if layout == 'port':
        splits = sum(1 for name in names if re.fullmatch(r'resnest\d_\d/Conv_3/weights', name))
        depth = 50 if splits == 16 else None
        last, classifier = shapes.get('Conv_63/weights', ()), shapes['Conv_71/weights']
    else:
        depth = _depth(names, r'stage%d/block(\d+)/conv3/kernel')
        last, classifier = (
            shapes.get('stage4/block1/conv3/kernel', ()),
            shapes.get('head/logits/kernel', (1, 1, 1, None)),
        )
    if depth is None or len(last) != 4 or len(classifier) != 4:
        return None
    return Description(
        layout,
        _LAYOUTS[layout],
        depth,
        last[3] / 2048,
        classifier[3],
        'auxiliary/logits/kernel' in names,
    )


def may_be_missing(names: Iterable[str]) -> Tuple[str, ...]:
    """The scopes that a warm start from this checkpoint initialises anew by design, because it has
    nothing of them.

    Both heads for a backbone, the auxiliary one for a network that was exported without; () for the
    port, which must be whole.
    """
    names = set(names)
    if layout_of(names) not in ('ours', 'backbone'):
        return ()
    return tuple(
        scope for scope in HEADS if not any(name.startswith(scope + '/') for name in names)
    )


def dead(names: Iterable[str]) -> List[str]:
    """Those variables of a port's checkpoint (and their slots) whose convs fed nothing: the graph
    here leaves them out.
    """
    names = list(names)
    return (
        [name for name in names if name.split('/')[0] in _DEAD]
        if layout_of(names) == 'port'
        else []
    )


def from_torch(state: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Translates a state dict of the authors' ResNeSt (resnest50-528c19ca.pth,
    resnest101-22405ba7.pth) to the paper's backbone.

    Args:
      state: conv1.0.weight, layer1.0.conv2.fc1.weight, ... (kernels OIHW). The classifier `fc` and
      the counters
        `num_batches_tracked` have no place in a segmentation network and are left out.
    Returns:
      Our variable names -> float32 arrays (kernels HWIO); the heads' are not among them, see
      `may_be_missing`.
    Raises:
      UserError: naming the tensors, if any is missing, left over or of another shape.
    """
    depth, last = (
        _depth(state, r'layer%d\.(\d+)\.conv3\.weight'),
        state.get('layer4.0.conv3.weight'),
    )
    if depth is None or last is None or last.ndim != 4 or 'layer1.0.conv2.conv.weight' not in state:
        raise UserError(
            "no ResNeSt of the authors' PyTorch code with %s layers: it would have conv1.0.weight,"
            ' layer1.0.conv2.conv.weight and layer4.0.conv3.weight, found %s'
            % (' or '.join(map(str, sorted(backbone.BLOCKS))), some(state))
        )
    wanted, sources = {}, {}
    for ours, shape in _backbone_shapes(depth, last.shape[0] / 2048).items():
        theirs, part = sources[ours] = _torch_name(ours)
        shape = [shape[3], shape[2], shape[0], shape[1]] if len(shape) == 4 else shape
        wanted[theirs] = tuple(shape) if part is None else (2 * shape[0],) + tuple(shape[1:])
    state = {
        name: value
        for name, value in state.items()
        if name not in ('fc.weight', 'fc.bias') and not name.endswith('.num_batches_tracked')
    }
    arrays = account(state, wanted, 'the PyTorch weights do not make a ResNeSt-%d' % depth)
    variables = {}
    for ours, (theirs, part) in sources.items():
        array = arrays[theirs] if part is None else np.split(arrays[theirs], 2)[part]
        variables[ours] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
    return variables


def _depth(names: Iterable[str], block: str) -> Optional[int]:
    """The depth whose stages have as many blocks as there are names that fit `block`, a pattern
    with the stage's number left open.
    """
    names = list(names)
    blocks = tuple(
        sum(1 for name in names if re.fullmatch(block % stage, name)) for stage in (1, 2, 3, 4)
    )
    return {there: depth for depth, there in backbone.BLOCKS.items()}.get(blocks)


def _backbone_shapes(depth: int, width: float) -> Dict[str, List[int]]:
    with tf.Graph().as_default():
        net = backbone.network(width, training=False, update_bn=False)
        backbone.stages(net, tf.placeholder(tf.float32, [1, 32, 32, 3]), depth)
        return {variable.op.name: variable.shape.as_list() for variable in tf.global_variables()}


_STEM = {
    'conv1': 'conv1.0',
    'conv1_bn': 'conv1.1',
    'conv2': 'conv1.3',
    'conv2_bn': 'conv1.4',
    'conv3': 'conv1.6',
    'conv3_bn': 'bn1',
}
# The two halves of split attention are one conv and one batch norm in the authors' code.
_BLOCK = {
    'conv1': 'conv1',
    'conv1_bn': 'bn1',
    'conv3': 'conv3',
    'conv3_bn': 'bn3',
    'shortcut': 'downsample.1',
    'shortcut_bn': 'downsample.2',
    'split/conv1': 'conv2.conv',
    'split/conv2': 'conv2.conv',
    'split/conv1_bn': 'conv2.bn0',
    'split/conv2_bn': 'conv2.bn0',
    'split/fc1': 'conv2.fc1',
    'split/fc1_bn': 'conv2.bn1',
    'split/fc2': 'conv2.fc2',
}
_LEAF = {
    'kernel': 'weight',
    'bias': 'bias',
    'gamma': 'weight',
    'beta': 'bias',
    'moving_mean': 'running_mean',
    'moving_variance': 'running_var',
}


def _torch_name(ours: str) -> Tuple[str, Optional[int]]:
    """(their name, which half of that tensor or None for all of it) of our backbone's variable."""
    layer, leaf = ours.rsplit('/', 1)
    if layer.startswith('stem/'):
        return '%s.%s' % (_STEM[layer[len('stem/') :]], _LEAF[leaf]), None
    stage, block, layer = re.fullmatch(r'stage(\d)/block(\d+)/(.+)', layer).groups()
    half = re.match(r'split/conv(\d)', layer)
    return (
        'layer%s.%d.%s.%s' % (stage, int(block) - 1, _BLOCK[layer], _LEAF[leaf]),
        half and int(half.group(1)) - 1,
    )
