"""Where the values of WideResNet's recipes stand in the publications' code; see make_ledger.py."""

from sources import MINDSPORE, PORT, Source, merged, number, numbers, value

AUTHORS = 'szagoruyko/wide-residual-networks@ae6d0d0561484172790c7a63c8ce6ade5a5a2914'


def ledger():
    return {
        'wrn28_10_cifar10': authors(10, r'WRN-28-10-dropout\| \*\*([\d.]+)\*\*'),
        'wrn28_10_cifar100': authors(100, r'WRN-28-10-dropout\|.*\| \*\*([\d.]+)\*\*'),
        'wrn40_10_cifar10': mindspore(),
        'wrn28_10_cifar100_port': port(),
    }


def authors(classes, result):
    lua = Source(AUTHORS, 'train.lua')
    script = Source(AUTHORS, 'scripts/train_cifar.sh')
    readme = Source(AUTHORS, 'README.md')
    network = Source(AUTHORS, 'models/wide-resnet.lua')
    python = Source(AUTHORS, 'pytorch/main.py')
    rate, _ = script.quote(r'learningRate=([\d.]+)')
    rate = number(rate.group(1))
    values = merged(
        value('variant', network, r"return createModel", 'paper'),
        value('depth', readme, r'widen_factor=10 depth=(\d+) dropout'),
        value('widen_factor', readme, r'widen_factor=(\d+) depth=28 dropout'),
        value('dropout_rate', readme, r'depth=28 dropout=([\d.]+)'),
        value('num_classes', python, r'num_classes = (\d+) if opt.dataset == .CIFAR10. else (\d+)',
              lambda ten, hundred: number(ten if classes == 10 else hundred)),
        value('statistics', lua, r'meanstd = \{mean = \{(.*?)\}, std  = \{(.*?)\}\}',
              lambda mean, std: numbers(mean) + numbers(std)),
        value('crop_pad', lua, r'randomcrop = (\d+)'),
        value('crop_padding', script, r'randomcrop_type=(reflect)ion', str),
        value('flip', lua, r'hflip = (true)'),
        value('global_batch', lua, r'batchSize = (\d+)'),
        value('epochs', script, r'max_epoch=(\d+)'),
        value('optimizer', lua, r'optimMethod = optim.sgd', 'momentum'),
        value('momentum', lua, r'  momentum = ([\d.]+)'),
        value('nesterov', script, r'nesterov=(true)'),
        value('weight_decay', lua, r'weightDecay = ([\d.]+)'),
        value(
            'weight_decay_rule',
            python,
            r'SGD\(\[v for v in params.values\(\) if v.requires_grad\]',
            'all',
        ),
        value('loss', lua, r'nn.CrossEntropyCriterion\(\)', 'cross_entropy'),
        value('label_smoothing', lua, r'nn.CrossEntropyCriterion\(\)', 0.0),
        value('learning_rate', script, r'learningRate=([\d.]+)'),
        value('schedule', lua, r'opt.learningRate \* opt.learningRateDecayRatio', 'piecewise'),
        value('boundaries', script, r'epoch_step="\{(.*)\}"',
              lambda epochs: [epoch - 1 for epoch in numbers(epochs)]),
        value('rates', script, r'learningRateDecayRatio=([\d.]+)',
              lambda ratio: [rate * number(ratio) ** drop for drop in range(4)]),
        value('published top1', readme, result, lambda error: 1 - number(error) / 100),
    )  # fmt: skip
    return {
        'values': values,
        'deviations': {
            'momentum buffer': "the authors' momentum starts from zero again at each new rate",
            'classifier': 'their Lua code draws the classifier uniformly, this one as their PyTorch'
            ' code does',
        },
    }


def mindspore():
    folder = 'research/cv/wideresnet/'
    config = Source(MINDSPORE, folder + 'config/wideresnet_cifar10_config.yaml')
    train = Source(MINDSPORE, folder + 'train.py')
    data = Source(MINDSPORE, folder + 'src/dataset.py')
    network = Source(MINDSPORE, folder + 'src/wide_resnet.py')
    schedule = Source(MINDSPORE, folder + 'src/generator_lr.py')
    readme = Source(MINDSPORE, folder + 'README.md')
    chinese = Source(MINDSPORE, folder + 'README_CN.md')
    script = {}
    exec(schedule.text(), script)
    rates = script['get_lr'](300, 195, 0.1)  # at every step
    changes = [0] + [i for i in range(1, len(rates)) if rates[i] != rates[i - 1]]
    values = merged(
        value('variant', network, r'^class WideResNet', 'mindspore'),
        value('depth', config, r'^depth: (\d+)'),
        value('widen_factor', config, r'^widen_factor: (\d+)'),
        value('num_classes', config, r'^num_classes: (\d+)'),
        value('dropout_rate', network, r'nn.Dropout\(p=([\d.]+)\)'),
        value('statistics', data, r'C.Normalize\(\[(.*?)\], \[(.*?)\]\)',
              lambda mean, std: numbers(mean) + numbers(std)),
        value('crop_pad', data, r'C.RandomCrop\(\(32, 32\), \((\d), 4, 4, 4\)\)'),
        value('crop_padding', data, r'C.RandomCrop\(', 'zero'),
        value('flip', data, r'C.RandomHorizontalFlip\(prob=0.5\)', True),
        value('global_batch', readme, r'batch_size = (32)  .*\| epoch=300, steps per epoch=195',
              lambda batch: 8 * number(batch)),
        value('epochs', config, r'^epoch_size: (\d+)'),
        value('optimizer', train, r'opt = (Momentum)\(group_params', str.lower),
        value('momentum', config, r'^momentum: ([\d.]+)'),
        value('nesterov', train, r'use_nesterov=(True)'),
        value('weight_decay', config, r'^weight_decay: ([\d.]+)'),
        value('weight_decay_rule', train, r"\{'params': no_decayed_params\}", 'all'),
        value('loss', train, r'loss = CrossEntropySmooth\(', 'cross_entropy'),
        value('label_smoothing', config, r'^label_smooth_factor: ([\d.]+)',
              lambda share: number(share) * 10 / 9),
        value('learning_rate', config, r'^lr_init: ([\d.]+)'),
        value('schedule', schedule, r'elif i <= int\(120 \* steps_per_epoch\)', 'piecewise'),
        value('boundaries', schedule, r'i <= int\(60 \* steps_per_epoch\)',
              [step / 195 for step in changes[1:]]),
        value('rates', schedule, r'lr = lr_init \* 0.1 \+ 0.01',
              [float('%.6g' % rates[step]) for step in changes]),
        value('loss_scale', config, r'^loss_scale: (\d+)'),
        value('save_interval', config, r'^save_checkpoint_epochs: (\d+)'),
        value('keep_checkpoints', config, r'^keep_checkpoint_max: (\d+)'),
        value('published top1', chinese, r"'top_1_accuracy': ([\d.]+)",
              lambda top1: float(top1[:6])),
    )  # fmt: skip
    return {
        'values': values,
        'deviations': {
            'boundaries': 'each new rate begins one step earlier',
            'batch_size': "a batch of 32 a device is its README's (the file has 64)",
            'evaluation': 'its evaluation drops the last batch, so that its figure is of 9984 of'
            ' the 10 000 images, and its loss is the label-smoothed one',
            'precision': 'it computes in float16 throughout (O2); here --precision decides',
            'initial values': 'biases and the classifier begin as in MindSpore 1, which made the'
            ' figure: 0, and normal with deviation 0.01 (MindSpore 2: uniform)',
        },
    }


def port():
    folder = 'TensorFlow/contrib/cv/wideresnet/wideresnet_ID0175_for_TensorFlow/'
    run = Source(PORT, folder + 'run_wideresnet.py')
    readme = Source(PORT, folder + 'README.md')
    network = Source(PORT, folder + 'wideresnet.py')
    image = Source(PORT, folder + 'preprocess.py')
    optimizer = r'MomentumWOptimizer\(([\d.]+),FLAGS.learning_rate,([\d.]+)\)'
    command = r'run_wideresnet.py  --model_path ./model/.*'
    values = merged(
        value('variant', network, r'def wide_resnet', 'port'),
        value('depth', readme, command + r'--depths (\d+)'),
        value('widen_factor', readme, command + r'--ks (\d+)'),
        value('num_classes', network, r'units=(\d+)'),
        value('dropout_rate', network, r'tf.layers.dropout\(x, rate=([\d.]+)'),
        value('normalization', image, r'return tf.image.(per_image)_standardization\(distort', str),
        value('crop_pad', image, r'^_PADDING = (\d+)'),
        value('crop_padding', image, r'image = tf.pad\(image', 'zero'),
        value('flip', image, r'random_flip_left_right', True),
        value('brightness', image, r'max_delta=(\d+)'),
        value('contrast', image, r'lower=([\d.]+), upper=1.8', lambda low: 1 - number(low)),
        value('global_batch', readme, command + r'--batch_size +(\d+)'),
        value('epochs', readme, command + r'--epoch +(\d+)'),
        value('optimizer', run, optimizer, lambda *_: 'momentumw'),
        value('weight_decay', run, optimizer, lambda decay, _: number(decay)),
        value('momentum', run, optimizer, lambda _, momentum: number(momentum)),
        value('nesterov', run, optimizer, lambda *_: False),
        value('weight_decay_rule', run, r'op = optimizer.minimize\(loss\)', 'all'),
        value('loss', run, r'sparse_softmax_cross_entropy_with_logits', 'cross_entropy'),
        value('label_smoothing', run, r'sparse_softmax_cross_entropy_with_logits', 0.0),
        value('schedule', run, optimizer, lambda *_: 'constant'),
        value('learning_rate', readme, command + r'--learning_rate +([\d.]+)'),
        value('published top1', readme, r'Top-1 accuracy \| [\d.]+ \| ([\d.]+)'),
    )
    return {
        'values': values,
        'deviations': {
            'length': "40 epochs are its command's; its README trains 10 for the figure, and prints"
            ' 81.59 % beside it',
            'shuffling': "all records are shuffled, the port's within 3200",
        },
    }
