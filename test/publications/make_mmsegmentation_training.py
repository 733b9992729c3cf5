"""Runs training steps of mmsegmentation's own code and stores losses, updates, logits, crops and
colours:

    python make_mmsegmentation_training.py CLONE [--output FOLDER]

CLONE: open-mmlab/mmsegmentation @ 0448dec5e469. Needs torch 2.13.0 and mmcv 1.3.0, whose compiled
operators are not used. Recipe, network, heads, loss, optimizer, runner and schedule are those of
configs/resnest/deeplabv3_s101-d8_512x1024_80k_cityscapes.py, in float64 on one device; one block a
stage, filters are 1/16 of the published, weights and images random (draws.py), dropout is off, and
the 80 000 steps are five. Weights travel under our names.
"""

import argparse
import logging
import os
import re
import sys
import tempfile
import types
from unittest import mock

import draws
import make_resnest_training as resnest
import numpy as np

NUMBERS = range(30, 35)  # of the batches; with others a ReLU's input is 0 but for rounding
CROP, TESTED = (24, 32), (65, 97)  # TESTED: height and width of an evaluated image
SAMPLED = [0, 1, 1000, 40000, 79998, 79999]  # steps whose learning rate is stored
_HEADS = {
    'decode_head.image_pool.1': 'head/pool',
    'decode_head.bottleneck': 'head/bottleneck',
    'auxiliary_head.convs.0': 'auxiliary/conv',
}


def label_map(number):
    """uint8 [48, 64] and 11 pairs of uniform numbers, for crops with one dominant class or more."""
    random = np.random.RandomState(2000 + number)
    label = np.zeros((48, 64), np.uint8)
    for value in (1, 2, 255):
        top, left = random.randint(48), random.randint(64)
        label[top : top + random.randint(4, 40), left : left + random.randint(4, 40)] = value
    return label, random.uniform(size=(11, 2))


def coloured():
    """A BGR image, uint8 [4, 4, 3], and rows of uniform numbers: of brightness, contrast, contrast
    last, saturation and hue.
    """
    random = np.random.RandomState(3000)
    return random.randint(0, 256, (4, 4, 3)).astype(np.uint8), random.uniform(size=(16, 5))


class Drawn:
    """The random numbers of their colour distortion, from a row of `coloured`: a number of 1/2 or
    more switches a change on and says how much.
    """

    def __init__(self, row):
        brightness, contrast, last, *numbers = row
        numbers.insert(2 if last >= 0.5 else 0, contrast)
        self._numbers = iter([brightness, 1 - last] + numbers)

    def randint(self, low, high=None):
        if high is not None:
            return int(np.floor(self.uniform(low, high)))
        self._number = next(self._numbers)
        return int(self._number >= 0.5)

    def uniform(self, low, high):
        return low + (2 * self._number - 1) * (high - low)


def modules(clone):
    sys.path.insert(0, clone)
    operators = sys.modules['mmcv.ops'] = types.ModuleType('mmcv.ops')
    operators.point_sample = operators.CrissCrossAttention = operators.PSAMask = None
    sys.modules['torchvision'] = types.ModuleType('torchvision')
    import mmcv
    from mmcv import runner
    from mmseg import datasets, models

    return mmcv, runner, models, datasets


def recipe(mmcv, clone):
    """The published configuration, small."""
    path = 'configs/resnest/deeplabv3_s101-d8_512x1024_80k_cityscapes.py'
    cfg = mmcv.Config.fromfile(os.path.join(clone, path))
    cfg.model.pretrained, cfg.model.backbone.depth = None, 14
    cfg.model.backbone.update(stem_channels=4, base_channels=4)
    cfg.model.decode_head.update(in_channels=128, channels=32)
    cfg.model.auxiliary_head.update(in_channels=64, channels=16)
    for part in (cfg.model.backbone, cfg.model.decode_head, cfg.model.auxiliary_head):
        part.norm_cfg.type = 'BN'
    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.update(num_classes=resnest.CLASSES, dropout_ratio=0)
    return cfg


def scope_of(layer):
    """Our name of one of their layers, with %d for the halves of split attention."""
    block = re.match(r'backbone.layer(\d)\.(\d)\.(.+)', layer)
    stem = re.match(r'backbone.stem.(\d)', layer)
    branch = re.match(r'decode_head.aspp_modules.(\d)\.(\w+)', layer)
    if block:
        return resnest.block_scope(*block.groups())
    if stem:
        conv, norm = divmod(int(stem.group(1)), 3)
        return 'stem/conv%d' % (conv + 1) + '_bn' * norm
    if branch:
        return 'head/aspp%d' % (int(branch.group(1)) + 1) + '_bn' * (branch.group(2) == 'bn')
    if layer.endswith('conv_seg'):
        return layer.split('_')[0].replace('decode', 'head') + '/logits'
    layer, part = layer.rsplit('.', 1)
    return _HEADS[layer] + '_bn' * (part == 'bn')


def batches():
    import torch

    for step in NUMBERS:
        images = draws.images(step, resnest.SIZE, resnest.BATCH).transpose(0, 3, 1, 2)
        yield {
            'img': torch.tensor(np.float64(images)),
            'img_metas': [{}] * resnest.BATCH,
            'gt_semantic_seg': torch.tensor(np.int64(resnest.pixels(step)))[:, None],
        }


class Batches(list):
    sampler = None


def train(clone):
    import torch

    mmcv, runner, models, _ = modules(clone)
    cfg = recipe(mmcv, clone)
    kind = models.BACKBONES.get('ResNeSt')
    kind.arch_settings[14] = (kind.arch_settings[50][0], (1, 1, 1, 1))
    torch.manual_seed(0)
    model = models.build_segmentor(cfg.model).double()
    model.init_weights()
    state = resnest.Weights(model, scope_of)
    initial = {name: [float(x.mean()), float(x.std())] for name, x in state.read().items()}
    state.fill()
    with torch.no_grad():
        image = draws.images(99, TESTED[1], 1)[:, : TESTED[0]].transpose(0, 3, 1, 2)
        logits = model.eval().encode_decode(torch.tensor(np.float64(image)), None)[0].numpy()

    before, losses, after = state.read(), [], []
    with tempfile.TemporaryDirectory() as folder:
        cfg.runner.max_iters = len(NUMBERS)
        optimizer = runner.build_optimizer(model, cfg.optimizer)
        options = dict(model=model, optimizer=optimizer, work_dir=folder)
        run = runner.build_runner(
            cfg.runner, default_args=dict(options, logger=logging.getLogger())
        )
        run.register_lr_hook(cfg.lr_config)
        run.register_optimizer_hook(cfg.optimizer_config)

        class Losses(runner.Hook):
            def after_train_iter(self, run):
                losses.append(run.outputs['log_vars']['loss'])
                after.append(state.read())

        run.register_hook(Losses())
        run.run([Batches(batches())], [('train', 1)])
        hook = [hook for hook in run.hooks if 'Poly' in type(hook).__name__][0]
        run._max_iters, rates = 80000, []
        for run._iter in SAMPLED:
            rates.append(hook.get_lr(run, cfg.optimizer.lr))
    return {
        'losses': losses,
        'first': draws.updates(before, after[0]),
        'updates': draws.updates(before, after[-1]),
        'rates': rates,
        'initial': initial,
        # A number of each class for every 8th row and column.
        'logits': np.round(logits[:, ::8, ::8], 5).tolist(),
    }


def crops(clone):
    """[top, left] of the crop of each label map, whose offsets are floor(draw * (margin + 1))."""
    _, _, _, datasets = modules(clone)
    transform = datasets.PIPELINES.get('RandomCrop')(crop_size=CROP, cat_max_ratio=0.75)
    found = []
    for number in range(16):
        label, uniform = label_map(number)
        draw = iter(uniform.ravel()).__next__
        places = np.stack(np.meshgrid(np.arange(48), np.arange(64), indexing='ij'), 2)
        with mock.patch('numpy.random.randint', lambda low, end, draw=draw: int(draw() * end)):
            crop = transform({'img': places, 'gt_semantic_seg': label})['img']
        found.append(crop[0, 0].tolist())
    return found


def colours(clone):
    """The image of `coloured` as each row of its numbers distorts it."""
    _, _, _, datasets = modules(clone)
    transform = datasets.PIPELINES.get('PhotoMetricDistortion')()
    image, rows = coloured()
    found = []
    for row in rows:
        with mock.patch(type(transform).__module__ + '.random', Drawn(row)):
            found.append(transform({'img': image.copy()})['img'].tolist())
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('clone')
    parser.add_argument('--output', default=os.path.dirname(os.path.abspath(__file__)))
    options = parser.parse_args()
    result = dict(train(options.clone), crops=crops(options.clone))
    result['colours'] = colours(options.clone)
    draws.store(os.path.join(options.output, 'mmsegmentation_training.json'), result)


if __name__ == '__main__':
    main()
