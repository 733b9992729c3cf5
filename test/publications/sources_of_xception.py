"""Where the values of Xception's recipes stand in the publications' code; see make_ledger.py."""

from sources import MINDSPORE, PORT, Source, merged, number, stated, value

PAPER = 'Chollet 2017, arXiv:1610.02357, '


def ledger():
    return {
        'xception_imagenet': mindspore(),
        'xception_imagenet_paper': paper(),
        'xception_imagenet_port': port(),
    }


def mindspore():
    folder = 'official/cv/Inception/xception/'
    config = Source(MINDSPORE, folder + 'default_config.yaml')
    train = Source(MINDSPORE, folder + 'train.py')
    data = Source(MINDSPORE, folder + 'src/dataset.py')
    network = Source(MINDSPORE, folder + 'src/Xception.py')
    schedule = Source(MINDSPORE, folder + 'src/lr_generator.py')
    loss = Source(MINDSPORE, folder + 'src/loss.py')
    readme = Source(MINDSPORE, folder + 'README.md')

    def setting(key, name, convert=number):
        return value(key, config, r'config_ascend:(?:\n    .*)*?\n    %s: (\S+)' % name, convert)

    script = {}
    exec(schedule.text(), script)
    rates = script['get_lr'](4e-5, 4e-5, 0.4, 1, 250, 1251, 'liner')
    sample = sorted({*range(0, len(rates), 1251), *range(1240, 1260), len(rates) - 1})
    values = merged(
        setting('num_classes', 'class_num'),
        setting('global_batch', 'batch_size', lambda batch: 8 * number(batch)),
        setting('epochs', 'epoch_size'),
        setting('momentum', 'momentum'),
        setting('weight_decay', 'weight_decay'),
        setting('loss_scale', 'loss_scale'),
        setting('warmup_epochs', 'warmup_epochs'),
        setting('warmup_start', 'lr_init'),
        setting('learning_rate', 'lr_max'),
        setting('end_learning_rate', 'lr_end'),
        setting('label_smoothing', 'label_smooth_factor', lambda share: number(share) * 1000 / 999),
        value('schedule', schedule, r'lr = lr_max - \(lr_max - lr_end\)', 'linear'),
        value('rate of step', schedule, r'def get_lr',
              {str(step): float(rates[step]) for step in sample}),
        value('optimizer', train, r'opt = (Momentum)\(net.trainable_params', str.lower),
        value('nesterov', train, r'config.weight_decay, config.loss_scale\)', False),
        value('weight_decay_rule', train, r'opt = Momentum\(net.trainable_params\(\), lr',
              'no_bn'),  # an optimizer of MindSpore leaves out names with beta or gamma
        value('loss', train, r'loss = CrossEntropySmooth\(', 'cross_entropy'),
        value('label smoothing over', loss, r'1.0 \* smooth_factor / \(num_classes - 1\)',
              'the other classes'),
        value('dropout_rate', network, r'nn.Dropout\(p=([\d.]+)\)'),
        value('bn_decay', network, r'self.bn1 = nn.BatchNorm2d\(32, momentum=([\d.]+)\)'),
        value('image_size', data, r'C.RandomCropDecodeResize\((\d+)\)'),
        value('train_preprocessing', data, r'C.RandomCropDecodeResize', 'random_resized_crop'),
        value('min_area', data, r'C.RandomCropDecodeResize\(299\)', 0.08),  # its default scale
        value('flip', data, r'C.RandomHorizontalFlip\(prob=0.5\)', True),
        value('color_jitter', data, r'C.RandomColorAdjust\(brightness=([\d.]+), contrast=0.4, sat'),
        value('eval_preprocessing', data, r'C.Resize\(320\)', 'resize_crop'),
        value('published top1', readme, r"'Top_1_Acc': ([\d.]+)", lambda top1: float(top1[:5])),
        value('published top5', readme, r"'Top_5_Acc': ([\d.]+)", lambda top5: float(top5[:5])),
    )  # fmt: skip
    return {
        'values': values,
        'deviations': {
            'epsilon': 'batch norm has epsilon 1e-3 as in Keras (theirs 1e-5)',
            'color jitter': 'brightness, contrast and saturation come in this order (theirs'
            ' random), and nothing is rounded between them',
            'shrinking': 'a crop of twice the size or more is averaged as it shrinks (theirs'
            ' interpolated)',
            'classifier': "the classifier begins Glorot uniform (theirs with its framework's"
            ' default)',
            'evaluation': 'its evaluation drops the last batch, so that its figures are of 49 920'
            ' of the 50 000 images, and its loss is the label-smoothed one',
            'precision': 'it computes in float16 (O3); here --precision decides',
        },
    }


def paper():
    values = merged(
        stated('optimizer', 'momentum', PAPER + 'section 4.2: SGD'),
        stated('momentum', 0.9, PAPER + 'section 4.2: momentum 0.9'),
        stated('learning_rate', 0.045, PAPER + 'section 4.2: initial learning rate 0.045'),
        stated('schedule', 'exponential', PAPER + 'section 4.2: decay of rate 0.94 every 2 epochs'),
        stated('decay_rate', 0.94, PAPER + 'section 4.2: decay of rate 0.94 every 2 epochs'),
        stated('decay_epochs', 2.0, PAPER + 'section 4.2: decay of rate 0.94 every 2 epochs'),
        stated('weight_decay', 1e-5, PAPER + 'section 4.3: weight decay (L2) of 1e-5'),
        stated('dropout_rate', 0.5, PAPER + 'section 4.3: a dropout layer of rate 0.5'),
        stated('loss', 'cross_entropy', PAPER + 'figure 5: ends in logistic regression'),
        stated('num_classes', 1000, PAPER + 'section 4: ImageNet, 1000 classes'),
        stated('image_size', 299, PAPER + 'figure 5: 299x299x3 images'),
        stated('published top1', 0.79, PAPER + 'table 1'),
        stated('published top5', 0.945, PAPER + 'table 1'),
    )
    return {
        'values': values,
        'choices': {
            'epochs': 120,
            'global_batch': 32,
            'ema_decay': 0.9999,
            'nesterov': False,
            'staircase': True,
            'weight_decay_rule': 'kernels',
            'bn_decay': 0.99,
            'train_preprocessing': 'random_resized_crop',
            'eval_preprocessing': 'resize_crop',
            'min_area': 0.08,
            'flip': True,
        },
        'deviations': {
            'choices': 'batch, epochs, decay of the average, staircase, plain momentum, which'
            ' variables decay, the decay of batch norm and preprocessing are not published and our'
            ' choice'
        },
    }


def port():
    folder = 'TensorFlow/contrib/cv/xception/Xception_ID0178_for_TensorFlow/'
    run = Source(PORT, folder + 'run_xception.py')
    readme = Source(PORT, folder + 'README.md')
    data = Source(PORT, folder + 'data_utils.py')
    network = Source(PORT, folder + 'xception_model.py')
    command = r'run_xception.py  --model_path ./model/.*'
    values = merged(
        value('num_classes', readme, command + r'--class_num +(\d+)'),
        value('global_batch', readme, command + r'--batch_size +(\d+)'),
        value('epochs', readme, command + r'--epoch +(\d+)'),
        value('learning_rate', readme, command + r'--learning_rate +([\d.]+)'),
        value('optimizer', run, r'tf.train.GradientDescentOptimizer', 'sgd'),
        value('weight_decay', run, r'tf.train.GradientDescentOptimizer', 0.0),
        value('schedule', run, r'tf.train.GradientDescentOptimizer', 'constant'),
        value('loss', run, r'softmax_cross_entropy', 'cross_entropy'),
        value('label_smoothing', run, r'softmax_cross_entropy', 0.0),
        value('bn_decay', network, r'^BN_MOMENTUM = ([\d.]+)'),
        value('image_size', data, r'resize_images\(images,\[(\d+),299\]\)'),
        value('train_preprocessing', data, r'resize_images\(images', 'plain'),
        value('eval_preprocessing', data, r'resize_images\(images', 'plain'),
        value('published top1', readme, r'Top-1 accuracy \| [\d.]+ \| ([\d.]+)'),
    )
    return {
        'values': values,
        'deviations': {
            'softmax': 'the port applies the softmax twice',
            'shuffling': "all records are shuffled, the port's within 640",
            'save_checkpoints_steps': 'its command saves every 10 steps',
        },
    }
