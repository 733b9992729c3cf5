"""Readers of weights from elsewhere: read(path) of each module here reads one kind of file. What
the names in it mean is said by each model's checkpoints.py.
"""

from typing import Dict, List, Mapping, Sequence

import numpy as np

from common.errors import UserError, some


def account(
    state: Mapping[str, np.ndarray], wanted: Mapping[str, Sequence[int]], what: str
) -> Dict[str, np.ndarray]:
    """Returns the tensors `wanted` {name: shape} of `state` as float32.

    Raises UserError, which begins with `what` and names the tensors that are missing, left over or
    of another shape: none is silently dropped.
    """
    missing = [name for name in wanted if name not in state]
    left = [name for name in state if name not in wanted]
    wrong_shape = [
        '%s is %s instead of %s' % (name, list(state[name].shape), list(shape))
        for name, shape in wanted.items()
        if name in state and state[name].shape != tuple(shape)
    ]
    faults: List[str] = []
    if missing:
        faults.append('missing ' + some(missing))
    if left:
        faults.append('left over ' + some(left))
    faults += ['; '.join(wrong_shape[:5])] if wrong_shape else []
    if faults:
        raise UserError('%s: %s' % (what, '; '.join(faults)))
    return {name: np.asarray(state[name], np.float32) for name in wanted}
