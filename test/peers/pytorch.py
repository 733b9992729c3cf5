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


def main():
    recipe = json.loads(sys.argv[1])
    torch.set_num_threads(recipe['threads'])
    networks = {'wideresnet': wideresnet, 'xception': xception}
    if recipe['model'] not in networks:
        sys.exit('there is no %s in PyTorch here' % recipe['model'])
    network = networks[recipe['model']](recipe).to(memory_format=torch.channels_last)
    height, width, channels = recipe['shape']
    images = torch.rand(recipe['batch_size'], channels, height, width)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(recipe['batch_size']) % recipe['num_classes']
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=5e-4)
    for step in range(WARM_UP + recipe['steps']):
        if step == WARM_UP:
            began = time.perf_counter()
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()
    print(recipe['steps'] * recipe['batch_size'] / (time.perf_counter() - began))


if __name__ == '__main__':
    main()
