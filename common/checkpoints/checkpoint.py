"""Checkpoints on disk: find, read, write, move and average them."""

import glob
import os
import pathlib
import re
import shutil
from typing import Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf

from common.errors import UserError, suggest
from common.files import atomic, require_no_pattern, temporary_folder

PathLike = Union[str, pathlib.Path]
_FILE_SUFFIX = re.compile(r'\.(index|meta|data-\d{5}-of-\d{5})$')


class Checkpoint:
    """A TensorFlow checkpoint on disk. path: its prefix; shapes: {variable name: shape}."""

    def __init__(self, path: PathLike):
        """Opens a prefix (model.ckpt-100), one of its files, or the newest of a folder; UserError
        if there is none or if it is damaged.
        """
        self.path = _prefix(str(path))
        try:
            self._reader = tf.train.NewCheckpointReader(self.path)
            self.shapes: Dict[str, List[int]] = self._reader.get_variable_to_shape_map()
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise self._damaged(error)

    def read(self, name: str) -> np.ndarray:
        """Returns a variable's value."""
        try:
            return self._reader.get_tensor(name)
        except tf.errors.OpError as error:
            raise self._damaged(error, ': variable %s' % name)

    @property
    def step(self) -> Optional[int]:
        """The global step; None without one, as in the published ports' checkpoints."""
        return int(self.read('global_step')) if 'global_step' in self.shapes else None

    def _damaged(self, error: Exception, part: str = '') -> UserError:
        reason = str(error).splitlines()[0]
        return UserError('%s%s is damaged: %s; use an older checkpoint' % (self.path, part, reason))


def _prefix(path: str) -> str:
    """Returns the prefix that --model_path means; UserError if no checkpoint is there."""
    prefix = _FILE_SUFFIX.sub('', path)
    require_no_pattern('--model_path', path)
    if pathlib.Path(prefix).is_dir():
        newest = latest(prefix)
        if not newest:
            raise UserError(
                '--model_path %s: the folder holds no checkpoint; give the prefix of one, such as'
                ' %s/model.ckpt-100' % (path, path)
            )
        return newest
    if not is_complete(prefix):
        file = pathlib.Path(prefix)
        present = sorted(index.stem for index in file.parent.glob('*.index'))
        suggestion = suggest(file.name, [name for name in present if name != file.name])
        if not suggestion and present:
            suggestion = '; the folder holds %s' % ', '.join(present[-3:])
        missing = '.data' if file.with_name(file.name + '.index').exists() else '.index'
        raise UserError(
            '--model_path %s: no such checkpoint (%s%s is missing)%s'
            % (path, prefix, missing, suggestion)
        )
    return prefix


def is_complete(prefix: PathLike) -> bool:
    """Returns whether the index and all data files of a checkpoint exist."""
    prefix = pathlib.Path(prefix)
    if not prefix.with_name(prefix.name + '.index').is_file():
        return False
    files = prefix.parent.glob(glob.escape(prefix.name) + '.data-*')
    parts = [file.name for file in files if _FILE_SUFFIX.search(file.name)]
    counts = {int(part.rsplit('-', 1)[1]) for part in parts}
    return counts == {len(parts)}


def is_readable(prefix: PathLike) -> bool:
    """Returns whether every variable can be read; TensorFlow verifies checksums."""
    try:
        reader = Checkpoint(prefix)
        for name in reader.shapes:
            reader.read(name)
    except UserError:
        return False
    return True


def step_in_name(name: str) -> int:
    """Returns the step of a run's checkpoint by the name of one of its files, -1 for another."""
    match = re.match(r'model\.ckpt-(\d+)\.', name)
    return int(match.group(1)) if match else -1


def training_checkpoints(folder: PathLike) -> List[Tuple[int, str]]:
    """Returns (step, prefix) of each complete model.ckpt-STEP of a folder, oldest first."""
    checkpoints = []
    for index in pathlib.Path(folder).glob('model.ckpt-*.index'):
        step, prefix = step_in_name(index.name), index.with_suffix('')
        if step >= 0 and is_complete(prefix):
            checkpoints.append((step, str(prefix)))
    return sorted(checkpoints)


def latest(folder: PathLike) -> Optional[str]:
    """Returns the prefix of the newest complete checkpoint of a folder, or None.

    Those of a run are found by their file names, others through TensorFlow's file `checkpoint`. A
    path in it that no longer exists, as after a move, is looked for beside that file.
    """
    run_checkpoints = training_checkpoints(folder)
    if run_checkpoints:
        return run_checkpoints[-1][1]
    state = tf.train.get_checkpoint_state(str(folder))
    for listed in reversed(state.all_model_checkpoint_paths if state else []):
        for prefix in (pathlib.Path(listed), pathlib.Path(folder, pathlib.Path(listed).name)):
            if is_complete(prefix):
                return str(prefix)
    return None


def require_prefix(path: str, example: str) -> None:
    """Raises UserError if --output `path` is a folder instead of a checkpoint's prefix."""
    require_no_pattern('--output', path)
    if os.path.isdir(path) or path.endswith(os.sep):
        raise UserError(
            '--output %s is a folder; name a checkpoint in it, such as %s'
            % (path, os.path.join(path, example))
        )


def write(path: PathLike, tensors: Dict[str, np.ndarray]) -> None:
    """Writes {name: array} as a checkpoint with the prefix `path`: all of its files or none."""
    path = pathlib.Path(path)
    with temporary_folder(path.name, path.parent) as folder:
        prefix, config = str(folder / path.name), tf.ConfigProto(device_count={'GPU': 0})
        with tf.Graph().as_default(), tf.Session(config=config) as session:
            values = [tf.placeholder(array.dtype, array.shape) for array in tensors.values()]
            save = tf.raw_ops.SaveV2(
                prefix=prefix,
                tensor_names=list(tensors),
                shape_and_slices=[''] * len(tensors),
                tensors=values,
            )
            session.run(save, dict(zip(values, tensors.values())))
        move(prefix, path)


def move(prefix: PathLike, target: PathLike, keep: bool = False) -> None:
    """Moves a checkpoint to another prefix, or copies it with `keep`. The index comes last: without
    it there is no checkpoint.
    """
    prefix, target = pathlib.Path(prefix), pathlib.Path(target)
    index = target.with_name(target.name + '.index')
    if index.exists():  # an old index must never stand beside new data
        index.unlink()
    files = prefix.parent.glob(glob.escape(prefix.name) + '.*')
    for file in sorted(files, key=lambda file: file.suffix == '.index'):
        with atomic(target.with_name(target.name + file.name[len(prefix.name) :])) as temporary:
            if keep:
                shutil.copyfile(file, temporary)
            else:
                shutil.move(str(file), str(temporary))


def average(paths: Sequence[str], output: PathLike) -> None:
    """Writes the mean of several checkpoints' floating-point variables, integers of the last."""
    checkpoints = [Checkpoint(path) for path in paths]
    for other in checkpoints[1:]:
        if other.shapes != checkpoints[0].shapes:
            raise UserError(
                '%s and %s are not of the same run: their variables differ'
                % (checkpoints[0].path, other.path)
            )
    tensors = {}
    for name in checkpoints[0].shapes:
        last = np.asarray(checkpoints[-1].read(name))
        if np.issubdtype(last.dtype, np.floating):
            values = [checkpoint.read(name) for checkpoint in checkpoints]
            last = np.mean(values, axis=0, dtype=np.float64).astype(last.dtype)
        tensors[name] = last
    write(output, tensors)
