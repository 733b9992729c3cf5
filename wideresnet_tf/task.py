"""WideResNet's Task: what `common` and `offline_inference` need to know of this model."""

import pathlib

from common.metrics.classification import ClassificationTask
from wideresnet_tf import checkpoints, input_pipeline, model, model_mindspore, model_port
from wideresnet_tf.config import WideResNetConfig


class WideResNet(ClassificationTask):
    name = 'wideresnet'
    config_class = WideResNetConfig
    aliases = {'depths': 'depth', 'ks': 'widen_factor', 'epoch': 'epochs'}
    default_recipe = pathlib.Path(__file__).parent / 'configs' / 'wrn28_10_cifar100_port.yaml'
    output_name = 'output/BiasAdd'
    heads = ('output',)
    input_shape = input_pipeline.SHAPE
    draws = input_pipeline.DRAWS

    def parse(self, batch, folder, training):
        return input_pipeline.parse(batch, folder, self.cfg, training)

    def augment(self, features):
        return input_pipeline.augment(features, self.cfg)

    def normalize(self, images):
        return input_pipeline.normalize(images, self.cfg)

    def affine_normalization(self):
        return input_pipeline.channel_statistics(self.cfg)

    def network(self, images, training, dropout=None, device=None):
        models = {'paper': model, 'port': model_port, 'mindspore': model_mindspore}
        return models[self.cfg.variant].build(images, self.cfg, training, dropout)

    def classes(self, metadata):
        return input_pipeline.class_names(metadata, self.cfg)

    def explain_checkpoint(self, shapes):
        found = checkpoints.describe(shapes)
        return 'it is ' + str(found) if found else ''


TASK = WideResNet
