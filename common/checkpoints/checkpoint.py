"""Checkpoints: what is in one, how it fits a network, weights-only copies, averages."""

import collections
import glob
import pathlib
import re
import shutil
import tempfile
from typing import Dict, List, Optional, Sequence, Union

import numpy as np
import tensorflow as tf

from common.errors import UserError, suggest
from common.files import atomic

AVERAGE = '/ExponentialMovingAverage'  # suffix of tf.train.ExponentialMovingAverage's shadows


class Checkpoint:
    """A TensorFlow checkpoint on disk. path: its prefix; shapes: {variable name: shape}."""

    def __init__(self, path: str):
        """`path` is a prefix (model.ckpt-100), one of its files, or a folder (its latest). Raises
        UserError.
        """
        prefix = re.sub(r'\.(index|meta|data-\d{5}-of-\d{5})$', '', str(path))
        if pathlib.Path(prefix).is_dir():
            found = latest(prefix)
            if not found:
                raise UserError(
                    '--model_path %s: the folder has no checkpoint; give the prefix of one, such as'
                    ' %s/model.ckpt-100' % (path, path)
                )
            prefix = found
        if not pathlib.Path(prefix + '.index').exists():
            there = sorted(file.stem for file in pathlib.Path(prefix).parent.glob('*.index'))
            raise UserError(
                '--model_path %s: no such checkpoint (%s.index is missing)%s'
                % (
                    path,
                    prefix,
                    suggest(pathlib.Path(prefix).name, there)
                    or ('; there are: ' + ', '.join(there[-3:]) if there else ''),
                )
            )
        self.path = prefix
        try:
            self._reader = tf.train.NewCheckpointReader(prefix)
            self.shapes: Dict[str, List[int]] = self._reader.get_variable_to_shape_map()
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise UserError(
                '%s is damaged: %s; take an older checkpoint' % (prefix, str(error).splitlines()[0])
            )

    def read(self, name: str) -> np.ndarray:
        try:
            return self._reader.get_tensor(name)
        except tf.errors.OpError as error:
            raise UserError(
                '%s: variable %s is damaged: %s; take an older checkpoint'
                % (self.path, name, str(error).splitlines()[0])
            )

    @property
    def step(self) -> Optional[int]:
        """The global step, None if the checkpoint has none (the published ports')."""
        return int(self.read('global_step')) if 'global_step' in self.shapes else None


Match = collections.namedtuple('Match', 'checkpoint names report')
Match.__doc__ = """How a checkpoint fits a network. names: {variable: name in the checkpoint}; report: one line that says what was restored."""


def match(
    checkpoint: Checkpoint,
    variables: Dict[str, Sequence[int]],
    optional: Sequence[str] = (),
    hint: str = '',
    dead: Sequence[str] = (),
) -> Match:
    """Finds every variable of a network in a checkpoint; averaged weights are taken where they
    exist.

    variables: {name: shape}. optional: scopes whose variables may be missing or of another shape
    and stay as initialised.
    hint: the task's words on what the checkpoint is. dead: those of its variables that had no
    effect, for the report. Raises UserError that names what is missing or has another shape: a
    restore is never silently partial.
    """
    names, left_out, missing, shapes = {}, [], [], []
    for name, shape in variables.items():
        source = name + AVERAGE if name + AVERAGE in checkpoint.shapes else name
        if source in checkpoint.shapes and list(checkpoint.shapes[source]) == list(shape):
            names[name] = source
        elif name.startswith(tuple(scope + '/' for scope in optional)):
            left_out.append(name)
        elif source in checkpoint.shapes:
            shapes.append(
                '%s is %s, the network wants %s' % (name, checkpoint.shapes[source], list(shape))
            )
        else:
            missing.append(name)
    if missing or shapes:
        parts = []
        if shapes:
            parts.append(
                '%d of other shape (%s)'
                % (len(shapes), '; '.join(shapes[:3]) + ('; ...' if len(shapes) > 3 else ''))
            )
        if missing:
            parts.append(
                '%d missing (%s)'
                % (len(missing), ', '.join(missing[:3]) + (', ...' if len(missing) > 3 else ''))
            )
        cure = (
            '; --reinit_head True initialises the classifier anew'
            if not missing and all('kernel' in s or 'bias' in s for s in shapes)
            else ''
        )
        raise UserError(
            '%s does not fit the network: of %d variables, %s%s%s'
            % (
                checkpoint.path,
                len(variables),
                ', '.join(parts),
                '; ' + hint if hint else '',
                cure if len(shapes) <= 2 else '',
            )
        )
    averaged = sum(source.endswith(AVERAGE) for source in names.values())
    report = '%s: restored %d of %d variables' % (checkpoint.path, len(names), len(variables))
    report += ' (%d of them averaged)' % averaged if averaged else ''
    report += '; initialised anew: %s' % _few(left_out) if left_out else ''
    report += '; dropped: %d that had no effect (%s)' % (len(dead), _few(dead)) if dead else ''
    unused = set(checkpoint.shapes) - set(names.values()) - set(variables) - set(dead)
    report += '; not used: %d others (optimizer, step)' % len(unused) if unused else ''
    return Match(checkpoint, names, report)


def _few(names: Sequence[str]) -> str:
    return ', '.join(names[:4]) + (', ...' if len(names) > 4 else '')


def latest(folder: str) -> Optional[str]:
    """Prefix of the newest complete checkpoint of a run's folder, or None."""
    state = tf.train.get_checkpoint_state(str(folder))
    for prefix in reversed(state.all_model_checkpoint_paths if state else []):
        if pathlib.Path(prefix + '.index').exists():
            return prefix
    return None


def write(path: str, tensors: Dict[str, np.ndarray]) -> None:
    """Writes {name: array} as a checkpoint; `path` is its prefix. The files appear whole or not at
    all, the index last.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.%s.' % path.name, dir=str(path.parent)) as folder:
        with tf.Graph().as_default(), tf.Session(
            config=tf.ConfigProto(device_count={'GPU': 0})
        ) as session:
            variables, feeds = {}, {}
            for name, array in tensors.items():
                value = tf.placeholder(array.dtype, array.shape)
                variables[name] = tf.Variable(value)
                feeds[value] = array
            session.run(tf.global_variables_initializer(), feeds)
            prefix = tf.train.Saver(variables).save(
                session,
                str(pathlib.Path(folder, path.name)),
                write_meta_graph=False,
                write_state=False,
            )
        move(prefix, path)


def move(prefix: str, target: Union[str, pathlib.Path], keep: bool = False) -> None:
    """Moves (or copies) a checkpoint's files to another prefix, the index last: without it there is
    no checkpoint.
    """
    target = pathlib.Path(target)
    index = target.with_name(target.name + '.index')
    if index.exists():  # an old index must never stand beside new data
        index.unlink()
    for file in sorted(
        pathlib.Path(prefix).parent.glob(glob.escape(pathlib.Path(prefix).name) + '.*'),
        key=lambda f: f.suffix == '.index',
    ):
        with atomic(
            target.with_name(target.name + file.name[len(pathlib.Path(prefix).name) :])
        ) as temporary:
            (shutil.copyfile if keep else shutil.move)(str(file), str(temporary))


def export(match_: Match, path: str) -> None:
    """Weights only, for one device: the network's variables under their own names (averages in
    their place) and the step.
    """
    tensors = {name: match_.checkpoint.read(source) for name, source in match_.names.items()}
    if match_.checkpoint.step is not None:
        tensors['global_step'] = np.int64(match_.checkpoint.step)
    write(path, {name: np.asarray(value) for name, value in tensors.items()})


def average(paths: Sequence[str], output: str) -> None:
    """Writes the mean of the floating-point variables of several checkpoints; integers are the last
    one's.
    """
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
            last = np.mean([c.read(name) for c in checkpoints], axis=0, dtype=np.float64).astype(
                last.dtype
            )
        tensors[name] = last
    write(output, tensors)
