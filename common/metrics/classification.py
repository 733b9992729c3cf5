"""What every image classifier shares: loss with label smoothing and mixup, top-1/top-5 counts."""

from typing import Any, Dict, List

import cv2
import numpy as np
import tensorflow as tf

from common.data import images, records
from common.errors import UserError
from common.metrics import graph_counts, losses, scores
from common.task import Features, Task


class ClassificationTask(Task):
    """features['label'] int32 [B]; logits [B, num_classes]. Mixup: features['mixup'] float32 [B],
    the share of the image's own label.
    """

    def folder(self, split: str) -> records.Folder:
        folder = super().folder(split)
        names = self.classes(folder.metadata)
        if names and len(names) != self.cfg.num_classes:
            raise UserError(
                '--num_classes %d: %s has %d classes'
                % (self.cfg.num_classes, folder.path, len(names))
            )
        return folder

    def classes(self, metadata: Dict[str, Any]) -> List[str]:
        """The names of the labels' classes by a dataset.json's content; [] if it does not say."""
        return list(metadata.get('classes', []))

    def decode(self, data: bytes) -> np.ndarray:
        """An image file's content -> uint8 [H,W,C] as evaluation sees it. Raises ValueError for
        what is no image.
        """
        height, width, _ = self.input_shape
        return cv2.resize(images.decode(data), (width, height), interpolation=cv2.INTER_AREA)

    def loss(self, outputs: tf.Tensor, features: Features) -> tf.Tensor:
        cfg = self.cfg
        if cfg.loss == 'focal':
            return losses.focal(outputs, features['label'], cfg.focal_gamma)
        return losses.cross_entropy(
            outputs,
            features['label'],
            cfg.label_smoothing,
            labels_b=features.get('label_b'),
            lam=features.get('mixup'),
        )

    def counts(self, logits: tf.Tensor, features: Features) -> Dict[str, tf.Tensor]:
        return graph_counts.classification_counts_graph(logits, features['label'], features['mask'])

    def offline_counts(
        self, logits: np.ndarray, features: Dict[str, np.ndarray]
    ) -> Dict[str, np.ndarray]:
        return scores.classification_counts(logits, features['label'], features['mask'])

    def metrics(self, counts: Dict[str, np.ndarray]) -> Dict[str, float]:
        return scores.classification(counts)

    def eval_line(self, figures: Dict[str, float]) -> str:
        return '%s eval  loss=%.5f   acc=%.4f' % (self.name, figures['loss'], figures['top1'])
