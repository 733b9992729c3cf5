"""Where the values of ResNeSt's recipes stand in the publications' code; see make_ledger.py."""

from sources import PORT, Source, merged, number, stated, value

AUTHORS = 'zhanghang1989/PyTorch-Encoding@ac748410dfc8d7d70a2ce7f5add08050af2fae20'
# Version 0.11.
MMSEGMENTATION = 'open-mmlab/mmsegmentation@0448dec5e4690ced25f8ee63e1a6b0f83f84cac8'
PAPER = 'Zhang et al. 2020, arXiv:2004.08955, results on Cityscapes'


def ledger():
    return {
        'resnest50_cityscapes_paper': authors(50, 0.7987),
        'resnest101_cityscapes_paper': authors(101, 0.8042),
        'resnest50_cityscapes': mmsegmentation(50),
        'resnest101_cityscapes': mmsegmentation(101),
        'resnest50_cityscapes_port': port(),
    }


def authors(depth, miou):
    train = Source(AUTHORS, 'experiments/segmentation/train_dist.py')
    base = Source(AUTHORS, 'encoding/models/sseg/base.py')
    deeplab = Source(AUTHORS, 'encoding/models/sseg/deeplab.py')
    schedule = Source(AUTHORS, 'encoding/utils/lr_scheduler.py')
    data = Source(AUTHORS, 'encoding/datasets/base.py')
    cityscapes = Source(AUTHORS, 'encoding/datasets/cityscapes.py')
    loss = Source(AUTHORS, 'encoding/nn/loss.py')
    values = merged(
        value('variant', deeplab, r'^class DeepLabV3\(BaseNet\)', 'paper'),
        value('depth', base, r"'resnest(%d)': resnest" % depth),
        value('num_classes', cityscapes, r'NUM_CLASS = (\d+)'),
        value('aspp_dropout', deeplab, r'nn.Dropout2d\(([\d.]+), False\)'),
        value('dropout_rate', deeplab, r'nn.Dropout\(([\d.]+), False\)'),
        value('aux_weight', train, r"--aux-weight', type=float, default=([\d.]+)"),
        value('image_pooling', deeplab, r'nn.AdaptiveAvgPool2d\(1\)', []),
        value('sync_bn', train, r'norm_layer=DistSyncBatchNorm', None),  # on several devices
        value('loss', loss, r'class SegmentationLosses\(nn.CrossEntropyLoss\)', 'cross_entropy'),
        value('loss_average', loss, r'__init__\(weight, None, ignore_index\)', 'labelled'),
        value('label_smoothing', loss, r'super\(SegmentationLosses, self\).__init__', 0.0),
        value('epochs', train, r"'citys': (\d+),"),
        value('optimizer', train, r'torch.optim.SGD', 'momentum'),
        value('momentum', train, r"--momentum', type=float, default=([\d.]+)"),
        value('nesterov', train, r'torch.optim.SGD\(params_list,', False),
        value('weight_decay', train, r"--weight-decay', type=float, default=([\d.e-]+)"),
        value('weight_decay_rule', train, r'model.pretrained.parameters\(\)', 'all'),
        value('head_rate_factor', train, r"model.head.parameters\(\), 'lr': args.lr\*(\d+)"),
        value('learning_rate', train, r"'citys': (0\.\d+)"),
        value('global_batch', train, r'lrs\[args.dataset.lower\(\)\] / (\d+) \* args.batch_size'),
        value('schedule', schedule, r"elif self.mode == 'poly'", 'polynomial'),
        value('power', schedule, r'pow\(\(1 - 1.0 \* T / self.total_iters\), ([\d.]+)\)'),
        value('end_learning_rate', schedule, r'pow\(\(1 - 1.0 \* T / self.total_iters\)', 0.0),
        value('flip', data, r'if random.random\(\) < 0.5', True),
        value('min_scale', data, r'random.randint\(int\(self.base_size\*([\d.]+)\)'),
        value('max_scale', data, r'int\(self.base_size\*(2[\d.]+)\)'),
        value('crop_fill', data, r'ImageOps.expand\(img, .* fill=0\)', 'black'),
        value('crop_max_share', data, r'x1 = random.randint\(0, w - crop_size\)', 1.0),
        value('photometric', data, r'def _sync_transform', False),
        stated('published miou', miou, PAPER),
    )  # fmt: skip
    return {
        'values': values,
        'choices': {'crop_height': 768, 'crop_width': 768},
        'deviations': {
            'flags': 'the code does not say its flags for Cityscapes: an auxiliary head, which its'
            ' commands for other data have, crops of 768 x 768, scales relative to the whole image,'
            ' and 16 images, for which its rate is written, are ours',
            'scaling': 'scales are continuous, crops begin between two pixels of the image, and'
            ' OpenCV resizes it, not Pillow, which averages where it shrinks',
            'initial values': 'without ImageNet weights the biases of split attention begin at 0'
            ' (theirs uniform)',
            'evaluation': 'whole images at scale 1; its test.py averages 7 scales, 0.75 to 2.25,'
            ' and mirrored images in windows, and the published figure may be of that',
        },
    }


def mmsegmentation(depth):
    model = Source(MMSEGMENTATION, 'configs/_base_/models/deeplabv3_r50-d8.py')
    schedule = Source(MMSEGMENTATION, 'configs/_base_/schedules/schedule_80k.py')
    data = Source(MMSEGMENTATION, 'configs/_base_/datasets/cityscapes.py')
    recipe = Source(MMSEGMENTATION, 'configs/resnest/deeplabv3_s101-d8_512x1024_80k_cityscapes.py')
    r101 = Source(MMSEGMENTATION, 'configs/deeplabv3/deeplabv3_r101-d8_512x1024_80k_cityscapes.py')
    pooling = Source(MMSEGMENTATION, 'mmseg/models/decode_heads/aspp_head.py')
    loss = Source(MMSEGMENTATION, 'mmseg/models/losses/cross_entropy_loss.py')
    readme = Source(MMSEGMENTATION, 'configs/resnest/README.md')
    train = Source(MMSEGMENTATION, 'docs/train.md')
    values = merged(
        value('variant', recipe, r"type='ResNeSt'", 'mmsegmentation'),
        value('depth', r101, r'depth=(\d+)'),
        value('num_classes', model, r'num_classes=(\d+)'),
        value('dropout_rate', model, r'dropout_ratio=([\d.]+)'),
        value('image_pooling', pooling, r'nn.AdaptiveAvgPool2d\(1\)', []),
        value('sync_bn', model, r"type='SyncBN'", None),  # on several devices
        value('aux_weight', model, r'loss_weight=(0[\d.]+)'),
        value('loss', model, r"type='CrossEntropyLoss'", 'cross_entropy'),
        value('loss_average', loss, r'weight_reduce_loss\(', 'all'),
        value('label_smoothing', model, r"type='CrossEntropyLoss', use_sigmoid=False", 0.0),
        value('global_batch', train, r'batch size = 4x2 = (\d+)'),
        value('steps', schedule, r'max_iters=(\d+)'),
        value('optimizer', schedule, r"type='SGD'", 'momentum'),
        value('momentum', schedule, r'momentum=([\d.]+)'),
        value('nesterov', schedule, r"type='SGD', lr=", False),
        value('weight_decay', schedule, r'weight_decay=([\d.]+)'),
        value('weight_decay_rule', schedule, r'optimizer_config = dict\(\)', 'all'),
        value('head_rate_factor', schedule, r'optimizer = dict\(', 1.0),
        value('learning_rate', schedule, r'lr=([\d.]+)'),
        value('schedule', schedule, r"policy='poly'", 'polynomial'),
        value('power', schedule, r'power=([\d.]+)'),
        value('end_learning_rate', schedule, r'min_lr=([\de-]+)'),
        value('crop_height', data, r'crop_size = \((\d+), \d+\)'),
        value('crop_width', data, r'crop_size = \(\d+, (\d+)\)'),
        value('min_scale', data, r'ratio_range=\(([\d.]+), [\d.]+\)'),
        value('max_scale', data, r'ratio_range=\([\d.]+, ([\d.]+)\)'),
        value('crop_max_share', data, r'cat_max_ratio=([\d.]+)'),
        value('crop_fill', data, r"type='Pad', size=crop_size, pad_val=0", 'mean'),
        value('flip', data, r"type='RandomFlip', prob=0.5", True),
        value('photometric', data, r"type='PhotoMetricDistortion'", True),
        value('published miou', readme, r'DeepLabV3  \| S-101-D8 \| 512x1024 .*?\| (7\d\.\d+) \|',
              lambda percent: number(percent) / 100),
    )  # fmt: skip
    deviations = {
        'scaling': "crops begin between two pixels of the image, and a class's share of a crop is"
        ' counted before the image is scaled',
        'labels': 'labels are scaled about the centres of pixels, as images are (theirs about'
        ' corners, half a pixel off)',
        'colours': 'saturation and hue change in one conversion to HSV (theirs two)',
        'initial values': 'without ImageNet weights the last batch norm of a block begins at gamma'
        ' 1 (theirs 0)',
    }
    if depth == 50:
        del values['published miou']
        deviations['depth'] = 'mmsegmentation trains no ResNeSt-50 on Cityscapes'
    return {'values': values, 'deviations': deviations}


def port():
    folder = 'TensorFlow/contrib/cv/resnest_resnet50_segmentation/resnest_ID0181_for_TensorFlow/'
    train = Source(PORT, folder + 'npu_8_distribute_train.py')
    network = Source(PORT, folder + 'resnest.py')
    readme = Source(PORT, folder + 'README.md')
    values = merged(
        value('variant', network, r'variance_scaling_initializer', 'port'),
        value('depth', network, r'^def resnet_(\d+)_encoder'),
        value('aux_weight', network, r'^def deeplabv3_resnest50', 0.0),
        value('image_pooling', network, r'slim.avg_pool2d\(net, 7, stride=\[1, 1\]', []),
        value('batch_size', readme, r'^batch_size=(\d+)'),
        value('epochs', readme, r'^epoch=(\d+)'),
        value('optimizer', train, r'tf.train.AdamOptimizer', 'adam'),
        value('epsilon', train, r'AdamOptimizer\(0.0001\)', 1e-8),  # TensorFlow's default
        value('schedule', train, r'AdamOptimizer\(0.0001\)', 'constant'),
        value('learning_rate', train, r'AdamOptimizer\(([\d.]+)\)'),
        value('weight_decay', train, r'optimizer.compute_gradients\(loss \* loss_scaling\)', 0.0),
        value('sync_bn', network, r'slim.arg_scope\(\[slim.batch_norm\]', False),
        value('loss', train, r'def focal_loss', 'focal'),
        value('focal_gamma', train, r'def focal_loss\(.*gamma=(\d+)'),
        value('loss_average', train, r'loss = tf.reduce_mean\(loss\)', 'all'),
        value('loss_scale', train, r'loss_scaling = 2 \*\* (\d+)', lambda power: 2 ** int(power)),
        value('min_scale', train, r'tf.random_crop\(combined', 1.0),
        value('max_scale', train, r'tf.random_crop\(combined', 1.0),
        value('crop_max_share', train, r'tf.random_crop\(combined', 1.0),
        value('flip', train, r'tf.image.flip_left_right\(image\)', True),
        value('photometric', train, r'tf.image.random_brightness\(image,32\)', True),
        value('published miou', readme, r'\| MIOU \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|'),
    )  # fmt: skip
    return {
        'values': values,
        # Flags of its commands; and no image is smaller than a crop.
        'choices': {'num_classes': 19, 'crop_height': 512, 'crop_width': 512, 'crop_fill': 'mean'},
        'deviations': {
            'learning_rate': "the rate is that of the port's README, 1e-5, which its code ignores"
            ' for 1e-4',
            'augmentation': 'mirroring and colours are drawn for each image; the port draws both'
            ' once for the whole run, changes saturation before contrast and contrast about the'
            ' mean colour, has no hue and neither rounds colours nor cuts them off at 0 and 255',
            'shuffling': "all records are shuffled, the port's within 120",
            'length': 'an epoch is all images: its code takes 260 off the steps of each, and'
            ' leaves none of 12 images',
            'published': 'the figures are of 100 of the 500 images: its evaluation loops over'
            ' range(100)',
        },
    }
