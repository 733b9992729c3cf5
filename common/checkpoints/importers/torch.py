"""PyTorch state dicts: .pth, .pt, .pt7, .pth.tar (need torch), or the same tensors as .npz."""

import os
import pathlib
import re
from typing import Any, Dict, Mapping, Sequence, Tuple, Union

import numpy as np

from common.errors import UserError

SUFFIXES = ('.pth', '.pt', '.pt7', '.pth.tar', '.npz')
# Our names of a layer's variables -> theirs.
TORCH_NAMES = {
    'kernel': 'weight',
    'bias': 'bias',
    'gamma': 'weight',
    'beta': 'bias',
    'moving_mean': 'running_mean',
    'moving_variance': 'running_var',
}
# Where training scripts put the tensors, beside epoch and optimizer.
_WRAPPERS = ('params', 'state_dict', 'model')

_WITHOUT_TORCH = """\
%(path)s needs torch, which is not installed here; on a machine that has it, these lines make an
.npz to use instead:
  import numpy, torch; s = torch.load(%(path)r, map_location='cpu', weights_only=True)
  tensors = s.get('params', s.get('state_dict', s.get('model', s)))
  tensors = {**tensors, **s.get('stats', {})}
  numpy.savez(%(npz)r, **{name: t.detach().numpy() for name, t in tensors.items()})"""


def read(path: Union[str, os.PathLike]) -> Dict[str, np.ndarray]:
    """Returns the tensors of a state dict by name, floats of a .pth as float32. UserError for an
    unreadable file, another suffix, torch not installed, entries that are not tensors.

    Unwraps {'params' | 'state_dict' | 'model': tensors}, joins 'stats' (batch-norm statistics of
    old functional code) to them and drops the 'module.' that DataParallel puts before names.
    """
    path = pathlib.Path(path)
    if not path.name.endswith(SUFFIXES):
        raise UserError('%s: PyTorch weights are read from %s' % (path, ', '.join(SUFFIXES)))
    state = _read_npz(path) if path.suffix == '.npz' else _read_torch(path)
    arrays = {}
    for name, value in state.items():
        name = name[len('module.') :] if name.startswith('module.') else name
        arrays[name] = _array(path, name, value)
    return arrays


def _read_npz(path: pathlib.Path) -> Dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged archive raises nearly anything
        raise UserError('%s is not an .npz archive of plain arrays: %s' % (path, error))


def _read_torch(path: pathlib.Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError:
        npz = path.with_name(re.sub(r'(\.pth)?\.\w+$', '.npz', path.name))
        raise UserError(_WITHOUT_TORCH % {'path': str(path), 'npz': str(npz)})
    try:
        # weights_only: a pickle of more than tensors could run code.
        state = torch.load(str(path), map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        raise UserError(
            '%s: torch %s cannot read it as weights: %s'
            % (path, torch.__version__, str(error).split('\n')[0])
        )
    if not isinstance(state, Mapping):
        raise UserError('%s holds a %s, not a state dict' % (path, type(state).__name__))
    for wrapper in _WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            return {**state[wrapper], **state.get('stats', {})}
    return state


def _array(path: pathlib.Path, name: str, value: Any) -> np.ndarray:
    if hasattr(value, 'detach'):
        value = value.detach()
        value = (value.float() if value.is_floating_point() else value).numpy()
    if not isinstance(value, np.ndarray):
        raise UserError('%s: entry %r is a %s, not a tensor' % (path, name, type(value).__name__))
    return value


def torch_shape(shape: Sequence[int]) -> Tuple[int, ...]:
    """The shape that PyTorch gives a kernel [H, W, I, O] or a matrix, bias or scale of ours."""
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else tuple(shape[::-1])


def to_tensorflow(array: np.ndarray) -> np.ndarray:
    """A kernel OIHW -> HWIO; a matrix transposed; a vector as it is."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
