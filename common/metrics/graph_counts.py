"""The counts of common/metrics.py as one static device graph, for evaluation inside the training
framework.
"""

from typing import Dict

import tensorflow as tf

from common.metrics import losses, scores


def classification_counts_graph(
    logits: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor
) -> Dict[str, tf.Tensor]:
    """Counts of one batch, equal to `scores.classification_counts` (the rule for ties and NaN is
    stated there).

    Only float32, int32 and bool, no control flow and no host ops. Sums are int32 where they count,
    so that mixed precision cannot round them; the confusion matrix is a matrix product, exact in
    float16 too as long as no class has more than 2048 images in the batch.

    Args:
        logits: [B, C] with both sizes known, any float dtype.
        labels: int32 [B] in [0, C).
        mask: float32 [B], 1 for an image that counts and 0 for padding.
    Returns:
        {'images', 'top1', 'top5': int32 [], 'loss_sum': float32 [], 'confusion': int32 [C, C] if C
        <= 100}.
    """
    batch, classes = logits.shape.as_list()
    logits = tf.cast(logits, tf.float32)
    labels = tf.cast(labels, tf.int32)
    counted = tf.greater(mask, 0.0)

    # Gathered, not summed from a one-hot product: the value has to compare equal to itself below.
    positions = tf.stack([tf.range(batch), labels], axis=1)
    true_logit = tf.expand_dims(tf.gather_nd(logits, positions), 1)
    earlier = tf.less(tf.expand_dims(tf.range(classes), 0), tf.expand_dims(labels, 1))
    beats = tf.logical_or(
        tf.logical_not(tf.less_equal(logits, true_logit)),
        tf.logical_and(tf.equal(logits, true_logit), earlier),
    )
    rank = tf.reduce_sum(tf.cast(beats, tf.int32), axis=1)

    def count(condition):
        return tf.reduce_sum(tf.cast(tf.logical_and(condition, counted), tf.int32))

    loss = losses.elementwise_cross_entropy(logits, labels)
    counts = {
        'images': tf.reduce_sum(tf.cast(counted, tf.int32)),
        'loss_sum': tf.reduce_sum(tf.where(counted, loss, tf.zeros_like(loss))),
        'top1': count(tf.less(rank, 1)),
        'top5': count(tf.less(rank, min(5, classes))),
    }
    if classes <= scores.CONFUSION_LIMIT:
        predicted = tf.argmax(logits, axis=1, output_type=tf.int32)
        true_rows = tf.one_hot(labels, classes) * tf.expand_dims(tf.cast(counted, tf.float32), 1)
        matrix = tf.matmul(true_rows, tf.one_hot(predicted, classes), transpose_a=True)
        counts['confusion'] = tf.cast(tf.round(matrix), tf.int32)
    return counts
