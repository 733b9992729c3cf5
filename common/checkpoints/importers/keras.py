"""Keras .h5 files: weights (save_weights) and whole models (save), written by Keras 1, 2 or
tf.keras.
"""

import multiprocessing
import multiprocessing.connection
import os
import pathlib
import re
from typing import Any, Dict, List, Union

import h5py
import numpy as np

from common.errors import UserError, first_few

# Keras 1's running_std is a variance.
_KERAS_1 = {
    'W': 'kernel',
    'b': 'bias',
    'running_mean': 'moving_mean',
    'running_std': 'moving_variance',
}


def read(path: Union[str, os.PathLike]) -> Dict[str, Dict[str, np.ndarray]]:
    """Returns {layer: {weight: array}} in the file's order, without layers that have no weights;
    floats are float32. UserError for a damaged file, and for one that is not Keras's.

    Weights go by the names of today's Keras (kernel, bias, gamma, moving_variance, ...), also those
    of a Keras 1 file. The layers of a model that is itself a layer (a backbone inside a Sequential)
    stand beside the others.
    """
    path = pathlib.Path(path)
    # In a process of its own, which a damaged file may crash inside the HDF5 library.
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context('fork')
    context.Process(target=_send, args=(sender, path), daemon=True).start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        result = UserError('%s is damaged: the HDF5 library crashes on it' % path)
    if isinstance(result, UserError):
        raise result
    return result


def _send(sender: multiprocessing.connection.Connection, path: pathlib.Path) -> None:
    """Sends what a file holds, or the UserError."""
    content: Any
    try:
        with h5py.File(str(path), 'r') as file:
            content = _layers(path, file['model_weights'] if 'model_weights' in file else file)
    except UserError as error:
        content = error
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:  # HDF5 raises any
        text = '%s is not an HDF5 file, or is damaged: %s'
        content = UserError(text % (path, ' '.join(str(error).split())))
    sender.send(content)


def _layers(path: pathlib.Path, group: h5py.Group) -> Dict[str, Dict[str, np.ndarray]]:
    layer_names = _texts(group, 'layer_names')
    if not layer_names:
        hint = (
            'Keras 3 wrote it: load it there and model.save() it as model.h5'
            if 'layers' in group
            else 'found ' + first_few(group)
        )
        raise UserError(
            '%s does not hold Keras weights: it has no attribute layer_names; %s' % (path, hint)
        )
    layers: Dict[str, Dict[str, np.ndarray]] = {}
    for layer in layer_names:
        weights = _texts(group[layer], 'weight_names')
        scopes = {name.rpartition('/')[0] for name in weights}
        for name in weights:
            # More than one scope: a model as a layer, whose own layers the scopes name.
            owner = name.rpartition('/')[0].split('/')[-1] if len(scopes) > 1 else layer
            layers.setdefault(owner, {})[_weight_name(name, owner)] = _array(group[layer][name])
    return layers


def _texts(group: h5py.Group, key: str) -> List[str]:
    """A list of texts, [] without one; a long one is cut into attributes KEY0, KEY1, ..."""
    parts = [group.attrs[key]] if key in group.attrs else []
    while key not in group.attrs and '%s%d' % (key, len(parts)) in group.attrs:
        parts.append(group.attrs['%s%d' % (key, len(parts))])
    return [
        text.decode() if isinstance(text, bytes) else str(text) for part in parts for text in part
    ]


def _weight_name(name: str, layer: str) -> str:
    """'block1_conv1/kernel:0' -> 'kernel'; Keras 1's 'convolution2d_1_W:0' -> 'kernel'."""
    weight = re.sub(r':\d+$', '', name.rpartition('/')[2])
    if weight.startswith(layer + '_'):
        weight = weight[len(layer) + 1 :]
        return _KERAS_1.get(weight, weight)
    return weight


def _array(data: h5py.Dataset) -> np.ndarray:
    array = np.asarray(data)
    return array.astype(np.float32) if array.dtype.kind == 'f' else array
