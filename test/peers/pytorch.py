"""Training steps of the same networks in PyTorch, for `python -m common.benchmark --peer_python`:

    PYTHON test/peers/pytorch.py '{"model": "wideresnet", "batch_size": 32, "steps": 20, ...}'

prints the images/s of whole steps on one synthetic batch, with PyTorch's faster memory layout
(channels last), SGD with momentum and weight decay. The keys are those of a recipe.
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional

WARM_UP = 3


class WideBlock(nn.Module):
    def __init__(self, before, filters, stride, rate):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(before), nn.BatchNorm2d(filters)
        self.conv1 = nn.Conv2d(before, filters, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.shortcut = None
        if before != filters:
            self.shortcut = nn.Conv2d(before, filters, 1, stride, bias=False)
        self.rate = rate

    def forward(self, x):
        y = functional.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = functional.relu(self.bn2(self.conv1(y)))
        return self.conv2(functional.dropout(y, self.rate, self.training)) + shortcut


def wideresnet(recipe):
    layers, before = [nn.Conv2d(3, 16, 3, 1, 1, bias=False)], 16
    for group, filters in enumerate((16, 32, 64)):
        for block in range((recipe['depth'] - 4) // 6):
            stride = 2 if group and not block else 1
            filters_here = filters * recipe['widen_factor']
            layers.append(WideBlock(before, filters_here, stride, recipe['dropout_rate']))
            before = filters_here
    head = [nn.BatchNorm2d(before), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten()]
    return nn.Sequential(*layers, *head, nn.Linear(before, recipe['num_classes']))


def separable(before, filters):
    return nn.Sequential(
        nn.Conv2d(before, before, 3, 1, 1, groups=before, bias=False),
        nn.Conv2d(before, filters, 1, bias=False),
        nn.BatchNorm2d(filters),
    )


class Sum(nn.Module):
    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


def halving(before, first, second, relu=True):
    body = [nn.ReLU()] if relu else []
    body += [separable(before, first), nn.ReLU(), separable(first, second), nn.MaxPool2d(3, 2, 1)]
    shortcut = nn.Sequential(nn.Conv2d(before, second, 1, 2, bias=False), nn.BatchNorm2d(second))
    return Sum(nn.Sequential(*body), shortcut)


def xception(recipe):
    def conv(before, filters, stride):
        kernel = nn.Conv2d(before, filters, 3, stride, bias=False)
        return [kernel, nn.BatchNorm2d(filters), nn.ReLU()]

    layers = conv(3, 32, 2) + conv(32, 64, 1) + [halving(64, 128, 128, relu=False)]
    layers += [halving(128, 256, 256), halving(256, 728, 728)]
    for _ in range(8):
        body = [part for _ in range(3) for part in (nn.ReLU(), separable(728, 728))]
        layers.append(Sum(nn.Sequential(*body), nn.Identity()))
    layers += [halving(728, 728, 1024), separable(1024, 1536), nn.ReLU()]
    layers += [separable(1536, 2048), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(
        *layers, nn.Dropout(recipe['dropout_rate']), nn.Linear(2048, recipe['num_classes'])
    )


def conv_bn(before, filters, size, stride=1, rate=1, groups=1, relu=True):
    padding = rate * (size // 2)
    conv = nn.Conv2d(before, filters, size, stride, padding, rate, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(filters), *([nn.ReLU()] if relu else []))


class SplitAttention(nn.Module):
    """Radix 2: both halves of the channels through a grouped conv, then a weighted sum of both."""

    def __init__(self, filters, rate):
        super().__init__()
        hidden = max(filters // 2, 32)
        self.convs = conv_bn(filters, 2 * filters, 3, rate=rate, groups=2)
        self.fc1 = nn.Sequential(nn.Conv2d(filters, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU())
        self.fc2 = nn.Conv2d(hidden, 2 * filters, 1)

    def forward(self, x):
        halves = torch.stack(self.convs(x).chunk(2, 1))
        pooled = halves.sum(0).mean((2, 3), keepdim=True)
        weights = torch.stack(self.fc2(self.fc1(pooled)).chunk(2, 1)).softmax(0)
        return (weights * halves).sum(0)


def bottleneck(before, filters, stride, rate, smooth):
    body = [conv_bn(before, filters, 1), SplitAttention(filters, rate)]
    body += [nn.AvgPool2d(3, stride, 1)] if smooth else []
    body.append(conv_bn(filters, 4 * filters, 1, relu=False))
    shortcut = [nn.AvgPool2d(2, 2, ceil_mode=True)] if stride > 1 else []
    if before != 4 * filters:
        shortcut.append(conv_bn(before, 4 * filters, 1, relu=False))
    return nn.Sequential(Sum(nn.Sequential(*body), nn.Sequential(*shortcut)), nn.ReLU())


class DeepLab(nn.Module):
    """DeepLabV3 on a ResNeSt at output stride 8, as resnest_tf/model.py, all at width 1."""

    def __init__(self, recipe):
        super().__init__()
        depth, classes, before = recipe['depth'], recipe['num_classes'], 64
        blocks = {14: (1, 1, 1, 1), 26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
        stem = before if depth == 101 else before // 2
        self.stem = nn.Sequential(
            conv_bn(3, stem, 3, 2), conv_bn(stem, stem, 3), conv_bn(stem, 2 * stem, 3)
        )
        self.stem.add_module('pool', nn.MaxPool2d(3, 2, 1))
        self.stages, before, rate = nn.ModuleList(), 2 * stem, 1
        for stage in range(4):
            filters, layers = 64 * 2**stage, []
            for block in range(blocks[stage]):
                first = stage > 0 and block == 0
                stride = 2 if first and stage == 1 else 1
                layers.append(bottleneck(before, filters, stride, rate, first))
                before = 4 * filters
                rate *= 2 if stage > 1 and block == 0 else 1
            self.stages.append(nn.Sequential(*layers))
        self.branches = nn.ModuleList([conv_bn(before, 256, 1)])
        self.branches.extend(conv_bn(before, 256, 3, rate=rate) for rate in (12, 24, 36))
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_bn(before, 256, 1))
        self.project = nn.Sequential(conv_bn(5 * 256, 256, 1), nn.Dropout2d(recipe['aspp_dropout']))
        drop = recipe['dropout_rate']
        self.head, self.auxiliary = (
            nn.Sequential(conv_bn(n, 256, 3), nn.Dropout(drop), nn.Conv2d(256, classes, 1))
            for n in (256, before // 2)
        )

    def forward(self, images):
        def resize(x):
            return functional.interpolate(x, images.shape[2:], mode='bilinear', align_corners=True)

        third = self.stem(images)
        for stage in self.stages[:3]:
            third = stage(third)
        x = self.stages[3](third)
        pooled = self.pooled(x).expand(-1, -1, *x.shape[2:])
        x = self.project(torch.cat([branch(x) for branch in self.branches] + [pooled], 1))
        return resize(self.head(x)), resize(self.auxiliary(third))


def main():
    recipe = json.loads(sys.argv[1])
    torch.set_num_threads(recipe['threads'])
    networks = {'wideresnet': wideresnet, 'xception': xception, 'resnest': DeepLab}
    if recipe['model'] not in networks:
        sys.exit('there is no %s in PyTorch here' % recipe['model'])
    network = networks[recipe['model']](recipe).to(memory_format=torch.channels_last)
    height, width, channels = recipe['shape']
    images = torch.rand(recipe['batch_size'], channels, height, width)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(recipe['batch_size']) % recipe['num_classes']
    if recipe['model'] == 'resnest':
        labels = labels[:, None, None].expand(-1, height, width)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=5e-4)
    for step in range(WARM_UP + recipe['steps']):
        if step == WARM_UP:
            began = time.perf_counter()
        optimizer.zero_grad()
        outputs = network(images)
        if recipe['model'] == 'resnest':
            loss, auxiliary = (functional.cross_entropy(x, labels) for x in outputs)
            loss = loss + recipe['aux_weight'] * auxiliary
        else:
            loss = functional.cross_entropy(outputs, labels)
        loss.backward()
        optimizer.step()
        loss.item()
    print(recipe['steps'] * recipe['batch_size'] / (time.perf_counter() - began))


if __name__ == '__main__':
    main()
