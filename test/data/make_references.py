"""Makes the stored references of the networks from the publications' own code, outside the tests:

    python make_references.py NAME CLONE [--output FOLDER]

NAME            CLONE                                                needs
wrn_authors     szagoruyko/wide-residual-networks @ ae6d0d0561484   torch 2.13.0, nested_dict
wrn_port        Ascend/ModelZoo-TensorFlow @ a2c3332a6cea2          tensorflow 1.15
wrn_mindspore   mindspore-ai/models @ eab643f51336d                 mindspore 2.10.0
resnest_authors zhanghang1989/ResNeSt @ 1dfb3e8867e2e               torch 2.13.0, fvcore

Each NAME.npz holds weights and batch-norm statistics, drawn from one seed in the order in which the
published network names them, images, and what that network computes from them on a CPU. The files
beside this script were made by it; it says how far a new one is from the stored one.
"""

import argparse
import os
import pathlib
import subprocess
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
PORT = 'TensorFlow/contrib/cv/wideresnet/wideresnet_ID0175_for_TensorFlow'


class Draws:
    """Random weights such that activations keep their size and every term matters."""

    def __init__(self, seed, scale, variance, gamma):
        self.random = np.random.RandomState(seed)
        self.scale, self.variance, self.gamma = scale, variance, gamma

    def weight(self, name, shape, fan_in):
        """name: 'conv1.weight' or 'conv2d/kernel'; fan_in counts the inputs of a kernel."""
        leaf = name.replace('/', '.').split('.')[-1]
        if len(shape) > 1:
            return self.rounded(self.random.normal(0, np.sqrt(2 / fan_in), shape))
        if leaf in ('weight', 'gamma'):
            return self.rounded(self.random.uniform(*self.gamma, shape))
        if leaf in ('running_var', 'moving_variance'):
            return self.rounded(self.random.uniform(*self.variance, shape))
        return self.rounded(self.random.normal(0, 0.3, shape))

    def rounded(self, values, scale=None):
        """Few digits, so that the file is small."""
        scale = scale or self.scale
        return (np.round(values * scale) / scale if scale else np.float16(values)).astype('f')

    def images(self, shape, scale=None):
        values = self.random.normal(size=shape)
        return self.rounded(values, scale) if scale else values.astype('f')


def wide_draws():
    return Draws(1605, scale=256, variance=(0.5, 2.0), gamma=(0.5, 1.5))


def wrn_authors(clone):
    sys.path.insert(0, os.path.join(clone, 'pytorch'))
    import torch
    from resnet import resnet

    network, params = resnet(16, 1, 10)
    draws = wide_draws()
    arrays = {n: draws.weight(n, tuple(p.shape), p[0].numel()) for n, p in params.items()}
    arrays['images'] = draws.images((4, 3, 32, 32), 32)
    tensors = {name: torch.tensor(value) for name, value in arrays.items()}
    with torch.no_grad():
        arrays['logits'] = network(tensors['images'], tensors, False).numpy()
        arrays['train_logits'] = network(tensors['images'], tensors, True).numpy()
    for norm in ('bn', 'group1.block0.bn1'):
        for leaf in ('running_mean', 'running_var'):
            name = '%s.%s' % (norm, leaf)
            arrays['train.' + name] = tensors[name].numpy()  # which training has updated
    return arrays


def wrn_port(clone):
    sys.path.insert(0, os.path.join(clone, PORT))
    import tensorflow as tf
    from wideresnet import wide_resnet

    images = tf.placeholder(tf.float32, [2, 32, 32, 3])
    logits = wide_resnet(images, False, 10, 1)
    draws, arrays = wide_draws(), {}
    with tf.Session() as session:
        for variable in tf.global_variables():
            shape = variable.shape.as_list()
            value = draws.weight(variable.op.name, shape, np.prod(shape[:-1]))
            arrays[variable.op.name] = value
            variable.load(value, session)
        arrays['images'] = draws.images((2, 32, 32, 3), 32)
        arrays['logits'] = session.run(logits, {images: arrays['images']})
    return arrays


def wrn_mindspore(clone):
    sys.path.insert(0, os.path.join(clone, 'research/cv/wideresnet'))
    import mindspore
    from src.wide_resnet import WideBasic, WideResNet

    network = WideResNet(10, WideBasic, depth=10, widen_factor=1)
    network.set_train(False)
    draws, arrays = wide_draws(), {}
    for name, parameter in network.parameters_dict().items():
        value = draws.weight(name, parameter.shape, np.prod(parameter.shape[1:]))
        arrays[name] = value
        parameter.set_data(mindspore.Tensor(value))
    arrays['images'] = draws.images((2, 3, 32, 32), 32)
    arrays['logits'] = network(mindspore.Tensor(arrays['images'])).asnumpy()
    return arrays


def resnest_authors(clone):
    """Blocks 2-2-2-2 and 1/16 of the published filters; the features of the stages, too."""
    sys.path.insert(0, clone)
    import torch
    from resnest.torch.models.resnet import Bottleneck, ResNet

    class Narrow(ResNet):
        def _make_layer(self, block, planes, *args, **options):
            return super()._make_layer(block, planes // 16, *args, **options)

    def network(dilated):
        options = dict(radix=2, deep_stem=True, stem_width=2, avg_down=True, avd=True)
        narrow = Narrow(Bottleneck, [2, 2, 2, 2], dilated=dilated, **options)
        narrow.fc = torch.nn.Linear(128, 5)
        return narrow.eval()

    draws = Draws(0, scale=None, variance=(0.5, 1.5), gamma=(0.5, 1.3))
    arrays = {
        name: np.int64(7)  # a counter that the importer has to leave out
        if name.endswith('num_batches_tracked')
        else draws.weight(name, tuple(value.shape), value[0].numel()).astype(np.float16)
        for name, value in network(False).state_dict().items()
    }
    state = {name: torch.tensor(value) for name, value in arrays.items()}
    for size in ((65, 51), (64, 48)):
        images = draws.images((2, 3) + size)
        arrays['images_%dx%d' % size] = images.transpose(0, 2, 3, 1)
        for stride in (32, 8):
            net = network(stride == 8)
            net.load_state_dict(state)
            with torch.no_grad():
                x = net.maxpool(net.relu(net.bn1(net.conv1(torch.tensor(images)))))
                for stage in (1, 2, 3, 4):
                    x = getattr(net, 'layer%d' % stage)(x)
                    if stage > 2 or (size, stride) == ((65, 51), 32):
                        name = '%dx%d/stride%d/stage%d' % (size + (stride, stage))
                        arrays[name] = x.permute(0, 2, 3, 1).numpy()
                arrays['%dx%d/stride%d/logits' % (size + (stride,))] = net(
                    torch.tensor(images)
                ).numpy()
    return arrays


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('name', choices=sorted(COMMITS))
    parser.add_argument('clone')
    parser.add_argument('--output', default='.', help='folder for NAME.npz')
    options = parser.parse_args()
    commit = subprocess.check_output(['git', '-C', options.clone, 'rev-parse', 'HEAD'], text=True)
    if not commit.startswith(COMMITS[options.name]):
        sys.exit('%s is at %s; check out %s' % (options.clone, commit, COMMITS[options.name]))
    arrays = globals()[options.name](options.clone)
    np.savez_compressed(os.path.join(options.output, options.name + '.npz'), **arrays)
    with np.load(str(HERE / (options.name + '.npz'))) as stored:
        assert set(stored.files) == set(arrays), set(stored.files) ^ set(arrays)
        print('largest difference', max(np.abs(stored[n] - v).max() for n, v in arrays.items()))


COMMITS = {
    'wrn_authors': 'ae6d0d0561484',
    'wrn_port': 'a2c3332a6cea2',
    'wrn_mindspore': 'eab643f51336d',
    'resnest_authors': '1dfb3e8867e2e',
}

if __name__ == '__main__':
    main()
