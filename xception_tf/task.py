"""Xception's Task: what `common` and `offline_inference` need to know of this model."""

import pathlib

from common.metrics.classification import ClassificationTask
from xception_tf import checkpoints, input_pipeline, model
from xception_tf.config import XceptionConfig


class Xception(ClassificationTask):
    name = 'xception'
    config_class = XceptionConfig
    aliases = {'class_num': 'num_classes', 'epoch': 'epochs'}
    default_recipe = pathlib.Path(__file__).parent / 'configs' / 'xception_imagenet_port.yaml'
    final_checkpoint = 'xception_model.ckpt'
    output_name = 'dense/BiasAdd'
    heads = ('dense',)
    eval_split = 'val'
    draws = input_pipeline.DRAWS

    @property
    def input_shape(self):
        return (self.cfg.image_size, self.cfg.image_size, 3)

    def input_baselines(self, folder):
        return input_pipeline.baselines(folder, self.cfg)

    def parse(self, batch, folder, training):
        return input_pipeline.parse(batch, folder, self.cfg, training)

    def augment(self, features):
        return input_pipeline.augment(features, self.cfg)

    def normalize(self, images):
        return input_pipeline.normalize(images, self.cfg)

    def affine_normalization(self):
        return input_pipeline.channel_statistics(self.cfg)

    def decode(self, data):
        return input_pipeline.decode(data, self.cfg)

    def network(self, images, training, dropout=None, device=None):
        return model.build(images, self.cfg, training, dropout)

    def explain_checkpoint(self, shapes):
        found = checkpoints.describe(shapes)
        return 'it is %s' % str(found) if found else ''


TASK = Xception
