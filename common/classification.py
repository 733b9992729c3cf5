"""What every image classifier shares: loss with label smoothing and mixup, top-1/top-5 counts."""
from typing import Dict

import numpy as np
import tensorflow as tf

from common import losses, metrics, metrics_graph
from common.task import Features, Task


class ClassificationTask(Task):
    """features['label'] int32 [B]; logits [B, num_classes]. Mixup: features['mixup'] float32 [B], the share of the image's own label."""

    def loss(self, logits: tf.Tensor, features: Features) -> tf.Tensor:
        cfg = self.cfg
        if cfg.loss == 'focal':
            return losses.focal(logits, features['label'], cfg.focal_gamma)
        return losses.cross_entropy(logits, features['label'], cfg.label_smoothing, labels_b=features.get('label_b'), lam=features.get('mixup'))

    def counts(self, logits: tf.Tensor, features: Features) -> Dict[str, tf.Tensor]:
        return metrics_graph.classification_counts_graph(logits, features['label'], features['mask'])

    def metrics(self, counts: Dict[str, np.ndarray]) -> Dict[str, float]:
        return metrics.classification(counts)

    def eval_line(self, figures: Dict[str, float]) -> str:
        return '%s eval  loss=%.5f   acc=%.4f' % (self.name, figures['loss'], figures['top1'])
