"""The checkpoints of Xception: which flags fit them, and how Keras names their variables. The
published Ascend port names them as this folder does.
"""

import collections
import functools
import re
from typing import Any, Dict, Mapping, Optional, Sequence

import numpy as np
import tensorflow as tf

from common.checkpoints.description import Description
from common.checkpoints.importers import select_tensors
from common.checkpoints.restore import variable_shapes
from common.errors import UserError, first_few
from xception_tf import model
from xception_tf.config import SMALLEST, XceptionConfig

# How many tensors of each name the network has, the classifier's not counted.
_TENSORS = {
    'kernel': 6,
    'depthwise_kernel': 34,
    'pointwise_kernel': 34,
    'gamma': 40,
    'beta': 40,
    'moving_mean': 40,
    'moving_variance': 40,
}


def describe(shapes: Mapping[str, Sequence[int]]) -> Optional[Description]:
    """Returns what a checkpoint holds, or None unless it is a whole Xception.

    shapes: {variable name: shape}; others, such as slots and averages, do not matter.
    """
    layers = [
        re.fullmatch(
            r'(block\d+_(sep)?conv\d(_bn)?|conv2d_[1-4]|batch_normalization_[1-4])/(\w+)', name
        )
        for name in shapes
    ]
    last = shapes.get('block14_sepconv2/pointwise_kernel', ())
    counts = collections.Counter(layer.group(4) for layer in layers if layer)
    if counts != _TENSORS or len(last) != 4:
        return None
    width = _width(last[3])
    flags = {'width': width} if width != 1 else {}
    classifier = shapes.get('dense/kernel', ())
    if len(classifier) != 2:
        return Description(
            'an Xception without a classifier, to train one on',
            dict(flags, do_train=True, reinit_head=True),
        )
    classes = classifier[1]
    return Description('an Xception with %d classes' % classes, dict(flags, num_classes=classes))


def classifier_scopes(cfg: XceptionConfig) -> Sequence[str]:
    """The scopes that --reinit_head may initialise anew."""
    return ('dense',)


def from_keras(weights: Mapping[str, Mapping[str, np.ndarray]]) -> Dict[str, np.ndarray]:
    """Translates the layers of a Keras Xception to this network's variables.

    Layers with Keras's names (block5_sepconv2_bn) are taken by them. The others are matched by kind
    and in the order of their numbers: the four shortcuts (conv2d_5), and in Keras's published
    files, which Keras 1 wrote, all (separableconvolution2d_7). The classifier is the one layer with
    a matrix.

    Args:
      weights: {layer: {weight: array}}, see common/checkpoints/importers/keras.py.
    Returns:
      Our variable names -> float32 arrays; without dense/... if there is no classifier.
    Raises:
      UserError: naming the tensors, if any is missing, left over or of another shape.
    """
    layers = weights.values()
    separable = [tensors['pointwise_kernel'] for tensors in layers if 'pointwise_kernel' in tensors]
    if not separable:
        raise UserError(
            'not an Xception: that would have 34 layers with a pointwise_kernel, found none among'
            ' the layers %s' % first_few(weights)
        )
    matrices = [tensors['kernel'] for tensors in layers if np.ndim(tensors.get('kernel')) == 2]
    width = _width(max(kernel.shape[-1] for kernel in separable))
    expected = _layers(width, matrices[0].shape[1] if matrices else None)
    matching = _matching(expected, weights)
    shapes = _flat({matching[layer]: tensors for layer, tensors in expected.items()})
    error_prefix = 'the Keras weights do not make an Xception of width %g' % width
    arrays = select_tensors(_flat(weights), shapes, error_prefix)  # in the order of `expected`
    return dict(zip(_flat(expected), arrays.values()))


def _flat(layers: Mapping[str, Mapping[str, Any]]) -> Dict[str, Any]:
    return {
        '%s/%s' % (layer, tensor): value
        for layer, tensors in layers.items()
        for tensor, value in tensors.items()
    }


def _matching(expected: Mapping[str, Mapping], weights: Mapping[str, Mapping]) -> Dict[str, str]:
    """{our layer: their layer}; one that they lack keeps our name, to be reported as missing."""
    matching = {}
    for layer in weights:
        # TensorFlow appends a number when a model is built twice.
        match = re.fullmatch(r'(block\d+_\w*?)(_\d+)?', layer)
        if match and match.group(1) in expected:
            matching[match.group(1)] = layer
    numbered = collections.defaultdict(list)
    for layer, tensors in weights.items():
        if layer not in matching.values():
            numbered[_kind(tensors)].append(layer)
    for kind, layers in numbered.items():
        layers.sort(key=lambda name: int((re.findall(r'_(\d+)$', name) or ['0'])[0]))
        missing = [
            name for name in expected if name not in matching and _kind(expected[name]) == kind
        ]
        matching.update(zip(missing, layers))
    return {layer: matching.get(layer, layer) for layer in expected}


def _kind(tensors: Mapping) -> frozenset:
    """What tells a conv from a batch norm or a classifier: names and ranks of their tensors."""
    return frozenset((name, len(getattr(value, 'shape', value))) for name, value in tensors.items())


def _width(filters: int) -> float:
    """The shortest decimal at which the last layer, of 2048 filters at width 1, has `filters`."""
    return next(
        width
        for width in (round(filters / 2048, digits) for digits in range(16))
        if width > 0 and model.filters_at(width, 2048) == filters
    )


@functools.lru_cache()
def _layers(width: float, num_classes: Optional[int]) -> Dict[str, Dict[str, Sequence[int]]]:
    """{layer: {tensor: shape}} of the network in creation order, without classifier for None."""
    cfg = XceptionConfig(width=width, num_classes=num_classes or 2)
    images = [1, SMALLEST, SMALLEST, 3]
    shapes = variable_shapes(lambda: model.build(tf.placeholder(tf.float32, images), cfg))
    layers: Dict[str, Dict[str, Sequence[int]]] = {}
    for name, shape in shapes.items():
        layer, tensor = name.split('/')
        layers.setdefault(layer, {})[tensor] = shape
    if num_classes is None:
        del layers['dense']
    return layers
