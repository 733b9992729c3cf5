"""Command lines of the offline commands, which are checked before TensorFlow is imported."""

import argparse
import dataclasses
import importlib
import pathlib
import subprocess
from typing import Any, Optional, Sequence, Tuple

from common import errors, models
from common.configuration import config
from common.configuration.fields import warn_without_effect
from common.errors import UserError
from common.task import Task

Argv = Optional[Sequence[str]]  # of a command line; None: this process's
Parsed = Tuple[argparse.Namespace, Any]  # a command's own flags, the model's configuration
PRECISIONS = ('f32', 'bf16')  # of OpenVINO


class Parser(errors.Parser):
    """Flags of an offline command; all others belong to the model's configuration."""

    def __init__(self, name: str, description: str):
        super().__init__(
            prog='python -m offline_inference.' + name,
            description=description,
            epilog="Every field of the model's configuration is a flag as well: python"
            ' MODEL_tf/run_MODEL.py --help',
        )
        self.add_argument('--model', required=True, help='wideresnet, ...: a folder MODEL_tf')

    def add_input_dtype(self, help_text: str) -> None:
        self.add_argument(
            '--input_dtype', default='float32', choices=('float32', 'uint8'), help=help_text
        )

    def add_conversion(self) -> None:
        """Adds the flags of a conversion by atc."""
        self.add_argument(
            '--soc_version', help='the chip, such as Ascend310; by default what npu-smi info shows'
        )
        self.add_input_dtype('uint8: normalisation is part of the model')
        self.add_argument(
            '--atc_precision_mode', help="instead of the model's own (ATC's default is force_fp16)"
        )

    def parse_model(self, argv: Argv) -> Parsed:
        """Returns the command's own flags, with `has_data`: --data_path is given; and the model's
        configuration.

        A run's config.yaml describes training; here --do_train, --device and --batch_size are
        evaluation's (the CPU, and its batch) unless they are given.
        """
        args, model_flags = self.parse_known_args(argv)
        config_class = models.config_class(args.model)
        flags = ['--do_train', 'False', '--device', 'cpu', *model_flags]
        cfg = config.parse(config_class, flags, self.flags)
        names = [word[2:].split('=')[0] for word in model_flags if word.startswith('--')]
        fields = [config_class.aliases.get(flag, flag) for flag in names]
        if 'batch_size' not in fields:
            cfg = dataclasses.replace(cfg, batch_size=cfg.eval_batch_size)
        args.has_data = 'data_path' in fields
        return args, cfg


def load(cfg: Any) -> Task:
    """Returns the task of a configuration; says which of its fields have no effect here."""
    warn_without_effect(cfg, 'gpu' if cfg.device == 'gpu' else 'cpu')
    return models.find(cfg.model)


def call(command: Sequence[Any], folder: pathlib.Path) -> Tuple[str, int]:
    """Runs a tool in a folder; returns all that it printed, and its exit status."""
    process = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        errors='replace',
    )
    return process.stdout, process.returncode


def optional_package(name: str, backend: str, fix: str) -> Any:
    """A package that only one backend needs; UserError without it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError('--backend %s: %s; %s' % (backend, error, fix))
