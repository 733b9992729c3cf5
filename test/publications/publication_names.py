"""Parameters of the publications in PyTorch and MindSpore: our names and TensorFlow's layout, for
make_training.py.
"""

import re


def to_ours(name, array):
    """The array of PyTorch or MindSpore in TensorFlow's layout; name: ours."""
    if name.endswith('depthwise_kernel'):
        return array.transpose(2, 3, 0, 1)
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def from_ours(name, array):
    if name.endswith('depthwise_kernel'):
        return array.transpose(2, 3, 0, 1)
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T


def of_authors(name):
    """Our name of a parameter of the authors' WideResNet."""
    names = {'conv0': 'stem/conv/kernel', 'fc.weight': 'output/kernel', 'fc.bias': 'output/bias'}
    if name in names:
        return names[name]
    layers = {'conv0': 'conv1', 'conv1': 'conv2', 'bn0': 'bn1', 'bn1': 'bn2'}
    layers['convdim'] = 'shortcut'
    block, scope = re.match(r'group(\d)\.block(\d)\.(\w+)', name), 'head/bn'
    if block:
        group, number = int(block.group(1)) + 1, int(block.group(2)) + 1
        scope = 'group%d/block%d/%s' % (group, number, layers[block.group(3)])
    if name.count('.') == 2 and 'bn' not in name:
        return scope + '/kernel'
    leaves = {'weight': 'gamma', 'bias': 'beta', 'running_mean': 'moving_mean'}
    return scope + '/' + leaves.get(name.split('.')[-1], 'moving_variance')


def of_wideresnet(name):
    """Our name of a parameter of MindSpore's WideResNet."""
    scope, leaf = name.rsplit('.', 1)
    scope = scope.replace('shortcut.0', 'shortcut')
    block = re.match(r'conv(\d)\.(\d)\.(\w+)', scope)
    others = {'conv1': 'stem/conv', 'bn1': 'stem/bn', 'bn': 'head/bn', 'linear': 'output'}
    if block:
        group, number, layer = int(block.group(1)) - 1, int(block.group(2)) + 1, block.group(3)
        scope = 'group%d/block%d/%s' % (group, number, layer)
    return '%s/%s' % (others.get(scope, scope), 'kernel' if leaf == 'weight' else leaf)


def of_xception(name):
    """Our name of a parameter of MindSpore's Xception."""
    scope, leaf = name.rsplit('.', 1)
    if scope == 'fc':
        return 'dense/' + {'weight': 'kernel'}.get(leaf, leaf)
    norm = leaf in ('gamma', 'beta', 'moving_mean', 'moving_variance')
    stem = re.fullmatch(r'(?:conv|bn)([12])', scope)
    if stem:
        layer = 'block1_conv%s' % stem.group(1)
        return layer + ('_bn/' + leaf if norm else '/kernel')
    last = re.fullmatch(r'(?:conv|bn)([34])(?:\.(conv1|pointwise))?', scope)
    block = re.match(r'block(\d+)\.(\w+)(?:\.(\d+))?(?:\.(conv1|pointwise))?', scope)
    if block and block.group(2).startswith('skip'):
        number = {1: 1, 2: 2, 3: 3, 12: 4}[int(block.group(1))]
        kind = 'batch_normalization' if norm else 'conv2d'
        return '%s_%d/%s' % (kind, number, leaf if norm else 'kernel')
    if last:
        layer, part = 'block14_sepconv%d' % (int(last.group(1)) - 2), last.group(2)
    else:
        place, part = int(block.group(3)), block.group(4)
        place += block.group(1) == '1'  # the first block has no leading ReLU
        layer = 'block%d_sepconv%d' % (int(block.group(1)) + 1, (place - 1) // 3 + 1)
    if norm:
        return layer + '_bn/' + leaf
    return layer + ('/depthwise_kernel' if part == 'conv1' else '/pointwise_kernel')
