"""Runs training steps of the ResNeSt authors' own code and stores losses and updates:

    python make_resnest_training.py CLONE [--output FOLDER]

CLONE: zhanghang1989/PyTorch-Encoding @ ac748410dfc8. Needs torch 2.13.0. Network, heads, loss,
optimizer, its groups and the decay are the publication's, in float64; filters are 1/16 of the
published, weights and images random (draws.py), dropout is off. `trained` uses the batch's
statistics, `frozen` the stored ones. Weights travel under our names.
"""

import argparse
import os
import re
import sys
import types

import draws
import numpy as np

CLASSES, BATCH, SIZE, RATES = 5, 4, 64, [0.01, 0.01, 0.005, 0.005, 0.0025]
FROZEN_RATES = [1e-4, 1e-4]  # activations are large with stored statistics that are random
_LEAVES = {
    'weight': 'gamma',
    'bias': 'beta',
    'running_mean': 'moving_mean',
    'running_var': 'moving_variance',
}
_LAYERS = {
    'conv1.0': 'stem/conv1',
    'conv1.1': 'stem/conv1_bn',
    'conv1.3': 'stem/conv2',
    'conv1.4': 'stem/conv2_bn',
    'conv1.6': 'stem/conv3',
    'bn1': 'stem/conv3_bn',
    'head.aspp.b0': 'head/aspp1',
    'head.aspp.b1': 'head/aspp2',
    'head.aspp.b2': 'head/aspp3',
    'head.aspp.b3': 'head/aspp4',
    'head.aspp.b4.gap': 'head/pool',
    'head.aspp.project': 'head/project',
    'head.block': 'head/conv',
    'auxlayer.conv5': 'auxiliary/conv',
}
_BLOCK = {
    'conv1': 'conv1',
    'bn1': 'conv1_bn',
    'conv3': 'conv3',
    'bn3': 'conv3_bn',
    'downsample.1': 'shortcut',
    'downsample.2': 'shortcut_bn',
    'conv2.conv': 'split/conv%d',
    'conv2.bn0': 'split/conv%d_bn',
    'conv2.fc1': 'split/fc1',
    'conv2.bn1': 'split/fc1_bn',
    'conv2.fc2': 'split/fc2',
}


def pixels(step):
    """int [BATCH, SIZE, SIZE]: classes, and 255 for about a tenth of the pixels."""
    random = np.random.RandomState(1000 + step)
    labels = random.randint(CLASSES, size=(BATCH, SIZE, SIZE))
    return np.where(random.uniform(size=labels.shape) < 0.1, 255, labels).astype(np.int32)


def modules(clone):
    """The authors' network, heads and loss, without what needs compiling."""
    import torch

    packages = 'encoding encoding.nn encoding.models encoding.models.backbone encoding.models.sseg'
    for name in packages.split() + ['encoding.utils', 'encoding.models.model_store']:
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    stub = type('Unused', (torch.nn.Module,), {})
    nn = sys.modules['encoding.nn']
    nn.DropBlock2D = nn.RFConv2d = nn.ConcurrentModule = nn.GlobalAvgPool2d = stub
    nn.SyncBatchNorm = torch.nn.BatchNorm2d
    for name, attribute in (('rectify', 'RFConv2d'), ('dropblock', 'DropBlock2D')):
        module = sys.modules['encoding.nn.' + name] = types.ModuleType(name)
        setattr(module, attribute, stub)
    utils = sys.modules['encoding.utils']
    utils.batch_pix_accuracy = utils.batch_intersection_union = None
    sys.modules['encoding.models.model_store'].get_model_file = None

    def load(name, edit=lambda text: text):
        path = os.path.join(clone, *name.split('.')) + '.py'
        with open(path) as file:
            code = compile(edit(file.read()), path, 'exec')
        module = types.ModuleType(name)
        module.__package__ = name.rpartition('.')[0]
        sys.modules[name] = module
        exec(code, module.__dict__)
        return module

    nn.SplAtConv2d = load('encoding.nn.splat').SplAtConv2d

    def narrow(text):
        for filters in (64, 128, 256, 512):
            text = text.replace('(block, %d,' % filters, '(block, %d,' % (filters // 16))
        return text.replace('nn.Linear(512', 'nn.Linear(32')

    resnet = load('encoding.models.backbone.resnet', narrow)
    for name in re.findall(
        r"'\w+': (\w+),", open(os.path.join(clone, 'encoding/models/sseg/base.py')).read()
    ):
        setattr(sys.modules['encoding.models.backbone'], name, None)
    load('encoding.models.sseg.base')
    fcn, deeplab = load('encoding.models.sseg.fcn'), load('encoding.models.sseg.deeplab')
    return resnet, fcn, deeplab, load('encoding.nn.loss')


def network(clone):
    import torch
    from torch.nn.functional import interpolate

    resnet, fcn, deeplab, loss = modules(clone)
    up = sys.modules['encoding.models.sseg.base'].up_kwargs
    norm = torch.nn.BatchNorm2d
    # As encoding/models/backbone/resnest.py builds resnest50, with one block a stage.
    pretrained = resnet.ResNet(
        resnet.Bottleneck, [1, 1, 1, 1], radix=2, groups=1, bottleneck_width=64, deep_stem=True,
        stem_width=2, avg_down=True, avd=True, avd_first=False, dilated=True, norm_layer=norm,
    )  # fmt: skip
    pretrained.avgpool = pretrained.fc = None

    class Net(deeplab.DeepLabV3):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.pretrained, self.backbone, self.aux, self._up_kwargs = pretrained, '', True, up
            self.head = deeplab.DeepLabV3Head(128, CLASSES, norm, up)
            self.auxlayer = fcn.FCNHead(64, CLASSES, norm)

    assert interpolate
    net = Net().double()
    for module in net.modules():
        if isinstance(module, (torch.nn.Dropout, torch.nn.Dropout2d)):
            module.p = 0.0
    return net, loss.SegmentationLosses(aux=True, aux_weight=0.2, nclass=CLASSES)


def scope_of(layer):
    """Our name of one of their layers, with %d for the halves of split attention."""
    layer = layer.replace('pretrained.', '', 1)
    block = re.match(r'layer(\d)\.(\d)\.(.+)', layer)
    head = re.match(r'(head.*|auxlayer.*)\.(\d)$', layer)
    if block:
        return block_scope(*block.groups())
    if not head:
        return _LAYERS[layer]
    scope, number = _LAYERS[head.group(1)], int(head.group(2))
    if number == 4:
        return scope.replace('conv', 'logits')
    return scope + '_bn' * (number == (2 if scope == 'head/pool' else 1))


def block_scope(stage, block, layer):
    return 'stage%s/block%d/%s' % (stage, int(block) + 1, _BLOCK[layer])


class Weights:
    """The tensors of a network of theirs under our names; scope_of as above."""

    def __init__(self, net, scope_of):
        self._tensors = {}
        for name, tensor in net.state_dict().items():
            layer, leaf = name.rsplit('.', 1)
            if leaf != 'num_batches_tracked':
                scope = scope_of(layer)
                leaf = (_LEAVES if scope.endswith('_bn') else {'weight': 'kernel'}).get(leaf, leaf)
                scopes = [scope % 1, scope % 2] if '%d' in scope else [scope]
                self._tensors[tuple(scope + '/' + leaf for scope in scopes)] = tensor

    def fill(self):
        """Sets them to the values of draws.py."""
        import torch

        for names, tensor in self._tensors.items():
            shape = list(tensor.shape)
            shape[0] //= len(names)
            if len(shape) == 4:
                shape = [shape[2], shape[3], shape[1], shape[0]]
            parts = [draws.weight(name, shape) for name in names]
            parts = [p.transpose(3, 2, 0, 1) if p.ndim == 4 else p for p in parts]
            tensor.copy_(torch.tensor(np.concatenate(parts).astype(np.float64)))

    def read(self):
        """{our name: array in TensorFlow's layout}"""
        found = {}
        for names, tensor in self._tensors.items():
            for name, part in zip(names, np.split(tensor.numpy(), len(names))):
                found[name] = (part.transpose(2, 3, 1, 0) if part.ndim == 4 else part).copy()
        return found


def steps(clone, frozen):
    import torch

    net, criterion = network(clone)
    state = Weights(net, scope_of)
    state.fill()
    rate = 0.01  # the groups of train_dist.py
    groups = [
        {'params': net.pretrained.parameters(), 'lr': rate},
        {'params': net.head.parameters(), 'lr': rate * 10},
        {'params': net.auxlayer.parameters(), 'lr': rate * 10},
    ]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9, weight_decay=1e-4)
    net.train(not frozen)
    before, losses = state.read(), []
    for step, rate in enumerate(FROZEN_RATES if frozen else RATES):
        for group, factor in zip(optimizer.param_groups, (1, 10, 10)):  # LR_Scheduler_Head
            group['lr'] = rate * factor
        images = np.float64(draws.images(step, SIZE, BATCH).transpose(0, 3, 1, 2))
        target = np.where(pixels(step) == 255, -1, pixels(step))
        optimizer.zero_grad()
        loss = criterion(*net(torch.tensor(images)), torch.tensor(target, dtype=torch.long))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {'losses': losses, 'updates': draws.updates(before, state.read())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('clone')
    parser.add_argument('--output', default=os.path.dirname(os.path.abspath(__file__)))
    options = parser.parse_args()
    result = {'trained': steps(options.clone, False), 'frozen': steps(options.clone, True)}
    draws.store(os.path.join(options.output, 'resnest_authors_training.json'), result)


if __name__ == '__main__':
    main()
