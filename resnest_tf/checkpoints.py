"""The checkpoints of DeepLabV3-ResNeSt: which flags fit them, and how its authors name variables.

Variable names alone tell graphs apart. A backbone is the paper's network without its heads: what
`from_torch` makes of ImageNet weights.
"""

import re
from typing import Collection, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from common.checkpoints.description import Description
from common.checkpoints.importers import select_tensors
from common.checkpoints.importers.torch import TORCH_NAMES, to_tensorflow, torch_shape
from common.checkpoints.restore import variable_shapes
from common.errors import UserError, first_few
from resnest_tf import backbone

_HEADS = ('head', 'auxiliary')  # scopes of the paper's network that are not its backbone
# The second conv of each of the port's blocks fed nothing: its graph here leaves them out.
_UNUSED = frozenset('Conv_%d' % (4 * block + 1) for block in range(16))


def describe(shapes: Mapping[str, Sequence[int]]) -> Optional[Description]:
    """Returns what a checkpoint holds, or None unless it is a whole ResNeSt of a known depth.

    shapes: {variable name: shape}. The paper's network may lack its heads, the port's must be
    whole.
    """
    missing, unused = [], []
    if {'conv1_1/weights', 'resnest1_0/Conv/weights', 'Conv_71/weights'} <= set(shapes):
        splits = [name for name in shapes if re.fullmatch(r'resnest\d_\d/Conv_3/weights', name)]
        variant, graph = 'port', "the published port's graph"
        depth = 50 if len(splits) == 16 else None
        last, classifier = shapes.get('Conv_63/weights', ()), shapes['Conv_71/weights']
        unused = [name for name in shapes if name.split('/')[0] in _UNUSED]
    elif {'stem/conv1/kernel', 'stage1/block1/split/conv1/kernel'} <= set(shapes):
        variant, graph = 'paper', "the paper's graph"
        if 'head/bottleneck/kernel' in shapes:
            variant, graph = 'mmsegmentation', "mmsegmentation's graph"
        depth = _depth(shapes, r'stage%d/block(\d+)/conv3/kernel')
        last = shapes.get('stage4/block1/conv3/kernel', ())
        classifier = shapes.get('head/logits/kernel', ())
        scopes = {name.split('/')[0] for name in shapes}
        missing = [scope for scope in _HEADS if scope not in scopes]
    else:
        return None
    if depth is None or len(last) != 4:
        return None
    flags = {'variant': variant, 'depth': depth}
    if last[3] != 2048:
        flags['width'] = last[3] / 2048
    if len(classifier) != 4:
        summary = 'a ResNeSt-%d backbone of %s, without a head, to train one on' % (depth, graph)
        return Description(summary, dict(flags, do_train=True), missing, unused)
    summary = 'a DeepLabV3-ResNeSt-%d with %d classes of %s' % (depth, classifier[3], graph)
    return Description(summary, dict(flags, num_classes=classifier[3]), missing, unused)


def classifier_scopes(cfg) -> Sequence[str]:
    """The scopes that --reinit_head may initialise anew."""
    return ('Conv_71',) if cfg.variant == 'port' else ('head/logits', 'auxiliary/logits')


def from_torch(state: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Translates a state dict of the authors' ResNeSt (resnest50-528c19ca.pth,
    resnest101-22405ba7.pth) to the paper's backbone.

    Args:
      state: conv1.0.weight, layer1.0.conv2.fc1.weight, ... (kernels OIHW). The classifier `fc` and
      the counters `num_batches_tracked` are left out.
    Returns:
      Our variable names -> float32 arrays (kernels HWIO), without the heads'.
    Raises:
      UserError: naming the tensors, if any is missing, left over or of another shape.
    """
    depth = _depth(state, r'layer%d\.(\d+)\.conv3\.weight')
    last = state.get('layer4.0.conv3.weight')
    if depth is None or last is None or last.ndim != 4 or 'layer1.0.conv2.conv.weight' not in state:
        raise UserError(
            "not a ResNeSt of the authors' PyTorch code with %s layers: that would have"
            ' conv1.0.weight, layer1.0.conv2.conv.weight and layer4.0.conv3.weight, found %s'
            % (' or '.join(map(str, sorted(backbone.BLOCKS))), first_few(state))
        )
    shapes, sources = {}, {}
    for name, shape in _backbone_shapes(depth, last.shape[0] / 2048).items():
        torch_name, half = sources[name] = _torch_name(name)
        shape = torch_shape(shape)
        shapes[torch_name] = shape if half is None else (2 * shape[0],) + shape[1:]
    ignored = re.compile(r'fc\.(weight|bias)|.*\.num_batches_tracked')
    state = {name: value for name, value in state.items() if not ignored.fullmatch(name)}
    arrays = select_tensors(state, shapes, 'the PyTorch weights do not make a ResNeSt-%d' % depth)
    return {
        name: to_tensorflow(
            arrays[torch_name] if half is None else np.split(arrays[torch_name], 2)[half]
        )
        for name, (torch_name, half) in sources.items()
    }


def _depth(names: Collection[str], block: str) -> Optional[int]:
    """The depth with as many blocks in each stage as names fit `block` with the stage's number."""
    patterns = [re.compile(block % stage) for stage in (1, 2, 3, 4)]
    counts = tuple(len(list(filter(pattern.fullmatch, names))) for pattern in patterns)
    return next((depth for depth, blocks in backbone.BLOCKS.items() if blocks == counts), None)


def _backbone_shapes(depth: int, width: float) -> Dict[str, List[int]]:
    net = backbone.network(width, update_bn=False)
    return variable_shapes(
        lambda: backbone.stages(net, tf.placeholder(tf.float32, [1, 32, 32, 3]), depth)
    )


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


def _torch_name(name: str) -> Tuple[str, Optional[int]]:
    """(their name, which half of that tensor or None for all of it) of our backbone's variable."""
    layer, tensor = name.rsplit('/', 1)
    if layer.startswith('stem/'):
        return '%s.%s' % (_STEM[layer[len('stem/') :]], TORCH_NAMES[tensor]), None
    stage, block, layer = re.fullmatch(r'stage(\d)/block(\d+)/(.+)', layer).groups()
    half = re.match(r'split/conv(\d)', layer)
    return (
        'layer%s.%d.%s.%s' % (stage, int(block) - 1, _BLOCK[layer], TORCH_NAMES[tensor]),
        half and int(half.group(1)) - 1,
    )
