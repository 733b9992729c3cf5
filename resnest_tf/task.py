"""ResNeSt's Task: what `common` and `offline_inference` need to know of this model."""

import pathlib

from common.errors import UserError
from common.metrics import segmentation
from common.task import Task
from common.training import batch_norm
from resnest_tf import (
    checkpoints,
    input_pipeline,
    model,
    model_mmsegmentation,
    model_port,
    test_time_augmentation,
)
from resnest_tf.config import ResNeStConfig

ENOUGH_IMAGES = 8  # that batch norm sees at a time in the published recipes


MODELS = {'paper': model, 'mmsegmentation': model_mmsegmentation, 'port': model_port}


class ResNeSt(Task):
    name = 'resnest'
    config_class = ResNeStConfig
    aliases = {
        'train_data': 'data_path',
        'model_save_dir': 'output_path',
        'pre_model': 'model_path',
        'is_training': 'do_train',
        'num_class': 'num_classes',
        'img_N': 'image_num',
    }
    default_recipe = pathlib.Path(__file__).parent / 'configs' / 'resnest50_cityscapes_port.yaml'
    output_name = 'resize/ResizeBilinear'
    eval_split = 'val'
    eval_batch_size = 1  # an image of 1024 x 2048 has 160 MB of logits
    best_metric = 'miou'
    # with ATC's default, float16 everywhere, the published port lost accuracy
    atc_precision_mode = 'allow_fp32_to_fp16'
    draws = input_pipeline.DRAWS

    @property
    def heads(self):
        return checkpoints.classifier_scopes(self.cfg)

    @property
    def input_shape(self):
        return (self.cfg.image_height, self.cfg.image_width, 3)

    def parse(self, batch, folder, training):
        return input_pipeline.parse(batch, folder, self.cfg, training)

    def normalize(self, images):
        return input_pipeline.normalize(images, self.cfg)

    def affine_normalization(self):
        return input_pipeline.channel_statistics(self.cfg)

    def network(self, images, training, dropout=None, device=None):
        """Returns the logits; in training (logits, logits of the auxiliary head or None)."""
        cfg = self.cfg
        synchronised = (
            batch_norm.synchronised(device) if device and cfg.sync_bn is not False else None
        )
        return MODELS[cfg.variant].build(
            images, cfg, training=training, dropout=dropout, batch_norm=synchronised
        )

    def loss(self, outputs, features):
        return segmentation.loss(outputs, features, self.cfg)

    def warnings(self, folder, device):
        cfg = self.cfg
        if cfg.freeze_bn:
            return []
        images = cfg.batch_size * (1 if cfg.sync_bn is False else device.size)
        if images == 1:
            raise UserError(
                'batch_size: 1 image at a time cannot train: batch norm after a global pooling'
                ' needs at least 2; give --batch_size 2 or more, --sync_bn True on several devices,'
                ' or --freeze_bn True'
            )
        if images < ENOUGH_IMAGES:
            return [
                'batch norm sees %d images at a time; published results take %d or more, with fewer'
                ' the mIoU falls by points. Raise --batch_size or the number of devices%s;'
                ' --accumulate does not help'
                % (images, ENOUGH_IMAGES, ' with --sync_bn True' if cfg.sync_bn is False else '')
            ]
        return []

    def inference(self, images):
        return test_time_augmentation.inference(
            lambda view: self.network(view, False), images, self.cfg
        )

    def counts(self, logits, features):
        return segmentation.counts(logits, features, self.cfg)

    def tally(self, folder, is_chief):
        return segmentation.accumulator(self.cfg, folder, is_chief)

    def offline_counts(self, logits, features):
        return segmentation.offline_counts(logits, features, self.cfg)

    def metrics(self, counts):
        return segmentation.figures(counts, self.cfg)

    def eval_line(self, figures):
        return segmentation.eval_line(self.name, figures)

    def input_baselines(self, folder):
        return input_pipeline.baselines(folder, self.cfg)

    def explain_checkpoint(self, shapes):
        found = checkpoints.describe(shapes)
        return 'it is %s' % str(found) if found else ''

    def may_be_missing(self, shapes):
        return checkpoints.may_be_missing(shapes)

    def dead(self, shapes):
        return checkpoints.unused_variables(shapes)


TASK = ResNeSt
