"""Finds a model by its name: the package NAME_tf. Importing a Task imports TensorFlow; a command
reads its flags before, by the class of the configuration alone.
"""

import importlib
import pkgutil
from typing import Any, Dict, Sequence, Tuple, Type

from common.configuration import config
from common.configuration.settings import Config
from common.errors import UserError, suggest
from common.task import Task


def config_class(name: str) -> Type[Config]:
    """Returns the class of a model's configuration; UserError if there is no such model."""
    classes = [
        value
        for value in _contents(name, 'config').values()
        if isinstance(value, type) and issubclass(value, Config) and value.model == name
    ]
    if not classes:
        raise UserError(
            '%s_tf: no config.py with a Config whose model is %s; CONTRIBUTING.md describes it'
            % (name, name)
        )
    return classes[-1]


def find(name: str) -> Task:
    """Returns the Task of a model; UserError if there is no such model."""
    task = _contents(name, 'task').get('TASK')
    if task is None:
        raise UserError('%s_tf: no task.py with a TASK; CONTRIBUTING.md describes it' % name)
    task.check()
    return task


def configure(name: str, argv: Sequence[str]) -> Tuple[Task, Any]:
    """Returns a model's Task and the configuration that `argv` (flags, --config) describes."""
    task = find(name)
    return task, config.parse(task.config, argv)


def _contents(name: str, part: str) -> Dict[str, Any]:
    """Returns what the module NAME_tf.PART defines, {} if there is no such module. UserError if no
    package NAME_tf is on Python's path.
    """
    names = sorted(
        module.name[: -len('_tf')]
        for module in pkgutil.iter_modules()
        if module.ispkg and module.name.endswith('_tf')
    )
    if name not in names:
        raise UserError(
            '--model %s is unknown; legal: %s%s' % (name, ', '.join(names), suggest(name, names))
        )
    module = '%s_tf.%s' % (name, part)
    try:
        return vars(importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return {}
