"""Finds a model by its name: `TASK` in the package NAME_tf."""

import importlib
import pkgutil
from typing import Any, Sequence, Tuple

from common.configuration import config
from common.errors import UserError, suggest
from common.task import Task


def find(name: str) -> Task:
    """Returns the Task of a model; UserError if no package NAME_tf is on Python's path."""
    names = sorted(
        module.name[: -len('_tf')]
        for module in pkgutil.iter_modules()
        if module.ispkg and module.name.endswith('_tf')
    )
    if name not in names:
        raise UserError(
            '--model %s is unknown; legal: %s%s' % (name, ', '.join(names), suggest(name, names))
        )
    try:
        module = importlib.import_module(name + '_tf.task')
    except ModuleNotFoundError as error:
        if error.name != name + '_tf.task':
            raise
        module = None
    task = getattr(module, 'TASK', None)
    if task is None:
        raise UserError('%s_tf: no task.py with a TASK; CONTRIBUTING.md describes it' % name)
    task.check()
    return task


def configure(name: str, argv: Sequence[str]) -> Tuple[Task, Any]:
    """Returns a model's Task and the configuration that `argv` (flags, --config) describes."""
    task = find(name)
    return task, parse(task, argv)


def parse(task: Task, argv: Sequence[str]) -> Any:
    """Returns the configuration of a task that `argv` describes."""
    return config.parse(task.config, argv)
