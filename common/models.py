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
    return importlib.import_module(name + '_tf.task').TASK


def configure(name: str, argv: Sequence[str]) -> Tuple[Task, Any]:
    """Returns a model's Task and the configuration that `argv` (flags, --config) describes."""
    task = find(name)
    return task, parse(task, argv)


def parse(task: Task, argv: Sequence[str]) -> Any:
    """Returns the configuration of a task that `argv` describes."""
    return config.parse(task.config, argv)
