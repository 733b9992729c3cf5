"""Command-line flags and optional packages of the offline commands."""

import argparse
import dataclasses
import importlib
import sys
from typing import Any, Optional, Sequence, Tuple

from common import errors, models
from common.configuration.fields import warn_without_effect
from common.configuration.settings import Config
from common.errors import UserError
from common.task import Task

INPUT_DTYPES = ('float32', 'uint8')


class Parser(errors.Parser):
    """Flags of an offline command; all others belong to the model's configuration."""

    def __init__(self, prog: str, description: str):
        super().__init__(prog='python -m offline_inference.' + prog, description=description)

    def add_input_dtype(self, help_text: str) -> None:
        self.add_argument(
            '--input_dtype', default=INPUT_DTYPES[0], choices=INPUT_DTYPES, help=help_text
        )

    def parse_model(
        self, argv: Optional[Sequence[str]]
    ) -> Tuple[argparse.Namespace, Task, Config, bool]:
        """Returns the command's own flags, the task, its configuration, and whether --data_path is
        given.

        A run's config.yaml describes training; here --do_train, --device and --batch_size are
        evaluation's (the CPU, and its batch) unless they are given.
        """
        self.epilog = (
            "Every field of the model's configuration is a flag as well: python"
            ' MODEL_tf/run_MODEL.py --help'
        )
        self.add_argument('--model', required=True, help='wideresnet, ...: a folder MODEL_tf')
        args, rest = self.parse_known_args(sys.argv[1:] if argv is None else argv)
        task, cfg = models.configure(args.model, ['--do_train', 'False', '--device', 'cpu'] + rest)
        flags = [word[2:].split('=')[0] for word in rest if word.startswith('--')]
        given = [task.config.aliases.get(flag, flag) for flag in flags]
        if 'batch_size' not in given:
            cfg = dataclasses.replace(cfg, batch_size=cfg.eval_batch_size)
        warn_without_effect(cfg, 'gpu' if cfg.device == 'gpu' else 'cpu')
        return args, task, cfg, 'data_path' in given


def optional_package(name: str, backend: str, fix: str) -> Any:
    """A package that only one backend needs; UserError without it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError('--backend %s: %s; %s' % (backend, error, fix))
