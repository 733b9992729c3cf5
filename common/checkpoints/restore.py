"""How a checkpoint fits a network: which variable is restored from which, and what is left out."""

import dataclasses
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from common.checkpoints.checkpoint import Checkpoint, PathLike, write
from common.configuration.settings import Config
from common.errors import UserError
from common.task import Task

AVERAGE = '/ExponentialMovingAverage'  # suffix of tf.train.ExponentialMovingAverage's shadows
Shapes = Dict[str, Sequence[int]]
_SHAPES: Dict[Any, Dict[str, List[int]]] = {}  # of each network: building a graph takes a second


class RestorePlan(NamedTuple):
    """names: {variable: name in the checkpoint}; report: one line that says what is restored."""

    checkpoint: Checkpoint
    names: Dict[str, str]
    report: str


def variable_shapes(build: Callable[[], Any]) -> Dict[str, List[int]]:
    """Returns {name: shape} of the variables that build() makes, in that order."""
    with tf.Graph().as_default():
        build()
        return {variable.op.name: variable.shape.as_list() for variable in tf.global_variables()}


def network_variables(task: Task, cfg: Any, training: bool = False) -> Shapes:
    """Returns {name: shape} of the network's weights and batch-norm statistics, in creation order;
    training: also of what only training has, such as an auxiliary head.
    """

    def build():
        images = tf.placeholder(tf.float32, (1,) + tuple(cfg.input_shape))
        task.build(images, cfg, training=training, dropout=lambda x, rate, index: x)

    key = _network(task, cfg, training)
    if key not in _SHAPES:
        _SHAPES[key] = variable_shapes(build)
    return dict(_SHAPES[key])


def _network(task: Task, cfg: Any, training: bool) -> Any:
    """What tells networks apart: a network is a function of its model's own fields."""
    own = {field.name for field in dataclasses.fields(cfg)} - set(Config.__dataclass_fields__)
    return task, training, repr([(name, getattr(cfg, name)) for name in sorted(own)])


def build_training(task: Task, images: tf.Tensor, cfg: Any, **options: Any) -> Any:
    """Builds the network for training, see common/task.py. `network_variables` then knows it."""
    before = {variable.op.name for variable in tf.global_variables()}
    outputs = task.build(images, cfg, training=True, **options)
    made = [variable for variable in tf.global_variables() if variable.op.name not in before]
    if made:  # not those of another micro-batch, reused
        shapes = {variable.op.name: variable.shape.as_list() for variable in made}
        _SHAPES.setdefault(_network(task, cfg, True), shapes)
    return outputs


def plan_restore(task: Task, cfg: Any, path: PathLike, training: bool = False) -> RestorePlan:
    """Plans how a checkpoint restores the task's network; UserError if it does not fit.

    training: for a warm start, which may leave out what the task allows and --reinit_head.
    """
    checkpoint = Checkpoint(path)
    description = task.checkpoints.describe(checkpoint.shapes)
    classifier = task.checkpoints.classifier_scopes(cfg)
    optional: List[str] = []
    if training:
        optional += description.missing if description else ()
        optional += classifier if cfg.reinit_head else ()
    return match(
        checkpoint,
        network_variables(task, cfg, training),
        optional,
        'it is ' + str(description) if description else '',
        description.unused if description else (),
        classifier,
    )


def match(
    checkpoint: Checkpoint,
    variables: Shapes,
    optional: Sequence[str] = (),
    hint: str = '',
    unused: Sequence[str] = (),
    classifier: Sequence[str] = (),
) -> RestorePlan:
    """Finds every variable of a network in a checkpoint, averaged weights where there are some.

    variables: {name: shape}. optional: scopes whose variables may be missing or of another shape;
    they stay as initialised. hint: what the checkpoint is, for the error. unused: variables of the
    checkpoint that had no effect, for the report. classifier: scopes that --reinit_head would make
    optional, for the error. UserError names what else is missing or of another shape.
    """
    names: Dict[str, str] = {}
    initialised, missing, wrong_shape = [], [], []
    for name, shape in variables.items():
        source = name + AVERAGE if name + AVERAGE in checkpoint.shapes else name
        stored_shape = checkpoint.shapes.get(source)
        if stored_shape is not None and list(stored_shape) == list(shape):
            names[name] = source
        elif _in_scopes(name, optional):
            initialised.append(name)
        elif stored_shape is not None:
            wrong_shape.append('%s is %s instead of %s' % (name, stored_shape, list(shape)))
        else:
            missing.append(name)
    if missing or wrong_shape:
        advice = [hint] if hint else []
        if not missing and all(_in_scopes(line, classifier) for line in wrong_shape):
            advice.append('--reinit_head True initialises the classifier anew')
        raise _mismatch(checkpoint.path, len(variables), missing, wrong_shape, advice)
    others = set(checkpoint.shapes) - set(names.values()) - set(variables) - set(unused)
    averaged = sum(source.endswith(AVERAGE) for source in names.values())
    parts = ['%s: restored %d of %d variables' % (checkpoint.path, len(names), len(variables))]
    if averaged:
        parts[0] += ' (%d of them averaged)' % averaged
    if initialised:
        parts.append('newly initialised: %s' % _first(initialised, 4))
    if unused:
        parts.append('dropped: %d unused (%s)' % (len(unused), _first(unused, 4)))
    if others:
        plural = 's' if len(others) > 1 else ''
        parts.append('ignored: %d other%s (optimizer, step)' % (len(others), plural))
    return RestorePlan(checkpoint, names, '; '.join(parts))


def _mismatch(
    path: str, total: int, missing: List[str], wrong_shape: List[str], advice: List[str]
) -> UserError:
    parts = []
    if wrong_shape:
        parts.append(
            '%d have another shape (%s)' % (len(wrong_shape), _first(wrong_shape, 3, '; '))
        )
    if missing:
        parts.append('%d are missing (%s)' % (len(missing), _first(missing, 3)))
    text = '%s does not fit the network: of %d variables, %s' % (path, total, ', '.join(parts))
    return UserError('; '.join([text, *advice]))


def _in_scopes(name: str, scopes: Sequence[str]) -> bool:
    return name.startswith(tuple(scope + '/' for scope in scopes))


def _first(names: Sequence[str], limit: int, separator: str = ', ') -> str:
    return separator.join(names[:limit]) + (separator + '...' if len(names) > limit else '')


def export(plan: RestorePlan, path: PathLike) -> None:
    """Writes the network's weights alone, averages in their place, and the step."""
    tensors = {
        name: np.asarray(plan.checkpoint.read(source)) for name, source in plan.names.items()
    }
    if plan.checkpoint.step is not None:
        tensors['global_step'] = np.asarray(plan.checkpoint.step, np.int64)
    write(path, tensors)


def initialize_from(plan: RestorePlan) -> None:
    """Makes the variables of the default graph start with the checkpoint's values."""
    tf.train.init_from_checkpoint(plan.checkpoint.path, saved_variables(plan.names))


def saved_variables(names: Dict[str, str]) -> Dict[str, tf.Variable]:
    """Returns {name in the checkpoint: variable of the default graph} for a tf.train.Saver."""
    variables = {variable.op.name: variable for variable in tf.global_variables()}
    return {source: variables[name] for name, source in names.items()}
