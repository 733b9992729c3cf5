"""Turns TensorFlow's errors about records and checkpoints into errors that a user can act on."""

import contextlib
import re
from typing import Any, Iterator, Optional

import tensorflow as tf

from common.checkpoints import restore
from common.data import records
from common.errors import UserError
from common.task import Task


@contextlib.contextmanager
def translated(task: Task, cfg: Any, path: Optional[str] = None) -> Iterator[None]:
    """Raises UserError for what goes wrong with records or with restoring the checkpoint `path`."""
    try:
        yield
    except tf.errors.OpError as error:
        mistake = records.user_error(error)
        text = str(error)
        if mistake or not path or not re.search('RestoreV2|Restoring from checkpoint failed', text):
            raise mistake or error
        if isinstance(error, (tf.errors.NotFoundError, tf.errors.InvalidArgumentError)):
            restore.plan_restore(task, cfg, path)  # says so if the network is another one
            match = re.search(r'Key \S+ not found', text)
            raise UserError(
                '%s was written with another --optimizer or --ema_decay (%s); give that one, or'
                ' another --output_path'
                % (path, match.group() if match else 'a variable has another shape')
            )
        raise UserError('%s is damaged: %s' % (path, text.splitlines()[0]))
