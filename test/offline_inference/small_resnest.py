"""A narrow ResNeSt with scenes of 64x96 pixels, and figures by their definitions."""

import types

import numpy as np
import tensorflow as tf
import yaml

from common.checkpoints import checkpoint
from common.data import tfrecord
from resnest_tf import model, model_port
from resnest_tf.config import ResNeStConfig

COUNT, HEIGHT, WIDTH = 5, 64, 96
NETWORKS = {
    'paper': dict(depth=14, width=1 / 16),
    'port': dict(depth=50, width=1 / 64, variant='port'),
}
CONSTANTS = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # mean and deviation, RGB


def scenes():
    """uint8 RGB [COUNT,H,W,3]: rectangles, whose colours tell red from blue, under noise."""
    random = np.random.RandomState(0)
    images = np.empty([COUNT, HEIGHT, WIDTH, 3])
    for image in images:
        image[:] = 80
        for _ in range(12):
            top, left = random.randint(0, HEIGHT - 24), random.randint(0, WIDTH - 24)
            image[top : top + 24, left : left + 24] = random.choice([20, 240], 3)
    return (images + random.normal(0, 15, images.shape)).clip(0, 255).astype(np.uint8)


def weights_and_logits(variant, images, prefix):
    """Writes a checkpoint of random weights and statistics whose classes share the pixels; returns
    the logits [COUNT,H,W,19].
    """
    random, weights = np.random.RandomState(1), {}
    mean, deviation = CONSTANTS
    inputs = (images - mean) / deviation
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, HEIGHT, WIDTH, 3])
        network = model_port if variant == 'port' else model
        logits = network.build(x, ResNeStConfig(**NETWORKS[variant]))
        for variable in tf.global_variables():
            shape, name = variable.shape.as_list(), variable.op.name
            weights[name] = (
                random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
                if len(shape) == 4
                else (
                    random.uniform(0.5, 1.5, shape)
                    if name.endswith(('gamma', 'moving_variance'))
                    else random.normal(0, 0.3, shape)
                )
            ).astype(np.float32)
        (bias,) = (name for name in weights if name in ('head/logits/bias', 'Conv_71/biases'))
        checkpoint.write(prefix, weights)
        tf.train.Saver().restore(session, prefix)
        found = session.run(logits, {x: inputs[..., ::-1] if variant == 'port' else inputs})
    average = found.mean(axis=(0, 1, 2))
    # So that every class wins somewhere.
    checkpoint.write(prefix, dict(weights, **{bias: weights[bias] - average}))
    return found - average


def made(variant, folder):
    """Fills the folder with a checkpoint, records and a recipe. Returns a namespace: words(output,
    flag=value, ...) of a command, logits [COUNT,H,W,19], labels, and the path of the records.
    """
    images = scenes()
    logits = weights_and_logits(variant, images, str(folder / 'resnest.ckpt'))
    labels = logits.argmax(axis=-1).astype(np.uint8)
    assert len(np.unique(labels)) > 4
    drawn = np.random.RandomState(2).randint(6, size=[COUNT, HEIGHT, WIDTH // 2])
    labels[:, :, WIDTH // 2 :] = drawn  # so that about half of them are right
    labels[:, -4:] = 255
    records = folder / 'data' / 'val' / 'val.tfrecord'
    records.parent.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(records)) as writer:
        for image, label in zip(images, labels):
            features = dict(image=image[..., ::-1].tobytes(), label=label.tobytes())
            features.update(height=HEIGHT, width=WIDTH, channels=3)
            writer.write(tfrecord.make_example(features))
    # A batch for training, which evaluation does not take; views that it averages and an offline
    # model has not; a run's own do_train.
    recipe = dict(
        NETWORKS[variant],
        model='resnest',
        image_height=HEIGHT,
        image_width=WIDTH,
        batch_size=4,
        do_train=True,
        eval_flip=True,
        eval_scales=[0.75, 1.0],
    )
    (folder / 'recipe.yaml').write_text(yaml.safe_dump(recipe))

    def words(output, **flags):
        given = dict(model='resnest', config=folder / 'recipe.yaml')
        given.update(model_path=folder / 'resnest.ckpt', data_path=folder / 'data')
        given.update(flags, output=output)
        return [str(word) for key, value in given.items() for word in ('--' + key, value)]

    return types.SimpleNamespace(words=words, logits=logits, labels=labels, records=records)


def figures(logits, labels):
    """Loss, mIoU and accuracy by their definitions."""
    real = labels != 255
    logits, labels = logits.astype(np.float64)[real], labels[real]
    found = logits.argmax(axis=-1)
    unions = [np.logical_or(found == number, labels == number).sum() for number in range(19)]
    iou = [
        np.logical_and(found == number, labels == number).sum() / union
        for number, union in enumerate(unions)
        if union
    ]
    highest = logits.max(axis=-1, keepdims=True)
    log_sum = (np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True)) + highest)[:, 0]
    return {
        'loss': np.mean(log_sum - logits[np.arange(len(labels)), labels]),
        'miou': np.mean(iou),
        'accuracy': np.mean(found == labels),
    }
