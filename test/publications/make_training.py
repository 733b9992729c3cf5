"""Runs five training steps of the publications' own code and stores losses and updates:

    python make_training.py NAME CLONE [--output FOLDER]

NAME                CLONE                                               needs
wrn_authors         szagoruyko/wide-residual-networks @ ae6d0d0561484   torch 2.13.0, nested_dict
wrn_mindspore       mindspore-ai/models @ eab643f51336d                 mindspore 2.10.0
xception_mindspore  the same                                            mindspore 2.10.0
wrn_port            Ascend/ModelZoo-TensorFlow @ a2c3332a6cea2          tensorflow 1.15

Networks are narrow, batches small, weights and images random (draws.py) and dropout is off; the
optimizer, the decayed parameters, the loss and batch norm are the publication's. Weights travel
under our names, so that the file needs no translation.
"""

import argparse
import os
import sys
import types

import draws
import numpy as np
from publication_names import from_ours, of_authors, of_wideresnet, of_xception, to_ours


def run(step_of, read, names, decays):
    """Returns the losses, the digests of the first update and of all, and the decays, by our names.

    step_of(step, rate) makes a step and returns its loss; read() gives {our name: array in
    TensorFlow's layout}.
    """
    before = read()
    losses = [step_of(0, draws.RATES[0])]
    first = read()
    losses += [step_of(step, rate) for step, rate in enumerate(draws.RATES) if step]
    after = read()
    assert set(before) == set(names)
    return {
        'losses': losses,
        'first': {name: draws.digest(name, before[name], first[name]) for name in names},
        'updates': {name: draws.digest(name, before[name], after[name]) for name in names},
        'decays': decays,
    }


def wrn_authors(clone):
    sys.path.insert(0, os.path.join(clone, 'pytorch'))
    import torch
    import torch.nn.functional as F
    from resnet import resnet

    network, params = resnet(10, 1, 10)
    for name, tensor in params.items():
        ours = of_authors(name)
        value = draws.weight(ours, to_ours(ours, tensor.detach().numpy()).shape)
        value = np.float64(from_ours(ours, value))
        params[name] = torch.tensor(value, requires_grad=tensor.requires_grad)
    trained = [value for value in params.values() if value.requires_grad]
    # As main.py, with the Nesterov momentum of the Lua code.
    optimizer = torch.optim.SGD(trained, 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def step_of(step, rate):
        optimizer.param_groups[0]['lr'] = rate
        images = torch.tensor(np.float64(draws.images(step, 32).transpose(0, 3, 1, 2)))
        labels = torch.tensor(draws.labels(step, 10), dtype=torch.long)
        loss = F.cross_entropy(network(images, params, True), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def read():
        return {n: to_ours(n, params[p].detach().numpy()).copy() for n, p in names.items()}

    names = {of_authors(name): name for name in params}
    decay = optimizer.param_groups[0]['weight_decay']
    decays = {n: decay for n, p in names.items() if params[p].requires_grad}
    _, fresh = resnet(10, 4, 10)
    initial = {of_authors(n): [x.mean().item(), x.std().item()] for n, x in fresh.items()}
    return dict(run(step_of, read, names, decays), initial=initial)


def mindspore_steps(network, loss, parameters, ours, size, classes, batch, **options):
    """Training as Model does: the gradients of all trainable parameters, one Momentum."""
    import mindspore
    from mindspore import nn

    names = {ours(name): parameter for name, parameter in parameters.items()}

    def read():
        return {name: to_ours(name, p.asnumpy().copy()) for name, p in names.items()}

    for name, value in read().items():
        value = from_ours(name, draws.weight(name, value.shape))
        names[name].set_data(mindspore.Tensor(np.ascontiguousarray(value)))
    network.set_train(True)
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Dropout):
            cell.p = 0.0  # which MindSpore takes for "no dropout"
            cell.keep_prob = 1.0
    trained = network.trainable_params()
    nesterov, groups = options.pop('use_nesterov', False), options.pop('groups', trained)
    shares = decays_as_built(nn.Momentum(groups, 1.0, 0.0, **options), trained)
    gradients = mindspore.value_and_grad(nn.WithLossCell(network, loss), None, trained)
    sums = [np.zeros(parameter.shape, np.float32) for parameter in trained]

    def step_of(step, rate):
        images = np.ascontiguousarray(draws.images(step, size, batch).transpose(0, 3, 1, 2))
        labels = draws.labels(step, classes, batch)
        value, found = gradients(mindspore.Tensor(images), mindspore.Tensor(labels))
        # The documented update of nn.Momentum, whose kernel for CPUs leaves Nesterov's part out.
        for parameter, gradient, decay, total in zip(trained, found, shares, sums):
            weight = parameter.asnumpy()
            gradient = gradient.asnumpy() + np.float32(decay) * weight
            total[...] = np.float32(0.9) * total + gradient
            update = gradient + np.float32(0.9) * total if nesterov else total
            parameter.set_data(mindspore.Tensor(weight - np.float32(rate) * update))
        return value.asnumpy().item()

    decays = {ours(parameter.name): decay for parameter, decay in zip(trained, shares)}
    return run(step_of, read, names, decays)


def decays_as_built(optimizer, parameters):
    """The weight decay of each parameter: what a step with gradients of zero takes off."""
    import mindspore

    before = [parameter.asnumpy().copy() for parameter in parameters]
    optimizer(tuple(mindspore.Tensor(np.zeros_like(value)) for value in before))
    decays = []
    for parameter, value in zip(parameters, before):
        share = np.median((value - parameter.asnumpy())[value != 0] / value[value != 0])
        decays.append(float('%.2g' % share) if share > 1e-6 else 0.0)
        parameter.set_data(mindspore.Tensor(value))
    return decays


def wrn_mindspore(clone):
    sys.path.insert(0, os.path.join(clone, 'research/cv/wideresnet'))
    from src.cross_entropy_smooth import CrossEntropySmooth
    from src.wide_resnet import WideBasic, WideResNet

    network = WideResNet(10, WideBasic, depth=10, widen_factor=1)
    plain, others = [], []
    for parameter in network.trainable_params():
        kept = any(word in parameter.name for word in ('beta', 'gamma', 'bias'))
        (others if kept else plain).append(parameter)
    # The groups of its train.py; the second names no decay and gets the optimizer's.
    groups = [{'params': plain, 'weight_decay': 5e-4}, {'params': others}]
    groups += [{'order_params': network.trainable_params()}]
    loss = CrossEntropySmooth(sparse=True, reduction='mean', smooth_factor=0.1, num_classes=10)
    parameters = dict(network.parameters_dict())
    options = dict(groups=groups, use_nesterov=True, weight_decay=5e-4)
    return mindspore_steps(network, loss, parameters, of_wideresnet, 32, 10, draws.BATCH, **options)


def xception_mindspore(clone):
    sys.path.insert(0, os.path.join(clone, 'official/cv/Inception/xception'))
    from mindspore import nn
    from src import Xception as source
    from src.loss import CrossEntropySmooth

    class Narrow:
        """mindspore.nn with 1/16 of the filters and the epsilon of Keras."""

        def __getattr__(self, name):
            return getattr(nn, name)

        def Conv2d(self, inputs, filters, *args, **options):
            if 'group' in options:
                options['group'] = width(options['group'])
            return nn.Conv2d(width(inputs), width(filters), *args, **options)

        def BatchNorm2d(self, filters, **options):
            return nn.BatchNorm2d(width(filters), eps=1e-3, **options)

        def Dense(self, inputs, classes):
            return nn.Dense(width(inputs), classes)

    def width(filters):
        return filters if filters == 3 else int(filters / 16 + 0.5)

    source.nn = Narrow()
    network = source.xception(10)
    loss = CrossEntropySmooth(smooth_factor=0.1, num_classes=10)
    parameters = dict(network.parameters_dict())
    batch = draws.XCEPTION_BATCH
    decay = dict(weight_decay=1e-4)
    return mindspore_steps(network, loss, parameters, of_xception, 299, 10, batch, **decay)


def wrn_port(clone):
    """Its rate is a flag, here a placeholder; what it imports for the NPU is empty."""
    folder = 'TensorFlow/contrib/cv/wideresnet/wideresnet_ID0175_for_TensorFlow'
    sys.path.insert(0, os.path.join(clone, folder))
    for name in ('npu_bridge', 'npu_bridge.estimator', 'npu_bridge.estimator.npu_ops'):
        sys.modules[name] = types.ModuleType(name)
        setattr(sys.modules[name.rpartition('.')[0] or name], name.rpartition('.')[2], None)
    import run_wideresnet as port
    import tensorflow as tf

    port.tf.layers.dropout = lambda x, **options: x
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, [draws.BATCH, 32, 32, 3])
        labels = tf.placeholder(tf.int64, [draws.BATCH])
        rate = tf.placeholder(tf.float32, [])
        port.FLAGS = types.SimpleNamespace(learning_rate=rate)
        logits = port.wide_resnet(images, True, 10, 1)
        variables = {v.op.name: v for v in tf.global_variables()}
        trained = [v.op.name for v in tf.trainable_variables()]
        train, loss, _ = port.training_op(logits, labels)
        only_decay, _, _ = port.training_op(0.0 * logits, labels)  # every gradient is 0
        session.run(tf.global_variables_initializer())

        def load():
            for name, variable in variables.items():
                variable.load(draws.weight(name, variable.shape.as_list()), session)

        def step_of(step, value, op=train):
            feed = {images: draws.images(step, 32), labels: draws.labels(step, 100), rate: value}
            return session.run([loss, op], feed)[0].item()

        def read():
            return session.run(variables)

        load()
        before, _, after = read(), step_of(0, 0.1, only_decay), read()
        shares = {n: np.median((before[n] - after[n]) / before[n]) for n in trained}
        decays = {name: float('%.1g' % share) for name, share in shares.items()}
        load()
        return run(step_of, read, variables, decays)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'name', choices=['wrn_authors', 'wrn_mindspore', 'wrn_port', 'xception_mindspore']
    )
    parser.add_argument('clone')
    parser.add_argument('--output', default=os.path.dirname(os.path.abspath(__file__)))
    options = parser.parse_args()
    result = globals()[options.name](options.clone)
    draws.store(os.path.join(options.output, options.name + '_training.json'), result)


if __name__ == '__main__':
    main()
