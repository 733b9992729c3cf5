"""Readers of weights from elsewhere: read(path) of each module reads one kind of file. A model's
checkpoints.py says what the names mean.
"""

from typing import Dict, Mapping, Sequence

import numpy as np

from common.errors import UserError, first_few


def select_tensors(
    state: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]], error_prefix: str
) -> Dict[str, np.ndarray]:
    """Returns the tensors `shapes` {name: shape} of `state` as float32, in that order; UserError,
    which begins with `error_prefix`, names those that are missing, left over or of another shape.
    """
    missing, surplus = set(shapes) - set(state), set(state) - set(shapes)
    wrong_shape = [
        '%s is %s instead of %s' % (name, list(state[name].shape), list(shape))
        for name, shape in shapes.items()
        if name in state and state[name].shape != tuple(shape)
    ]
    faults = ['missing ' + first_few(missing)] if missing else []
    faults += ['left over ' + first_few(surplus)] if surplus else []
    faults += wrong_shape[:5]
    if faults:
        raise UserError('%s: %s' % (error_prefix, '; '.join(faults)))
    return {name: np.asarray(state[name], np.float32) for name in shapes}
