"""The whole of a model's run script: trains, evaluates a checkpoint, or predicts image files."""

import dataclasses
import os
import pathlib
import sys
from typing import Any, Optional, Sequence

import tensorflow as tf

from common import devices
from common.configuration import command_line
from common.configuration.fields import warn_without_effect
from common.data import modelarts, pipeline
from common.errors import UserError, entry_point
from common.evaluation import evaluate, predict_command, show_batch
from common.task import Task
from common.training import train


@entry_point
def main(task: Task, argv: Optional[Sequence[str]] = None) -> None:
    """Runs what the flags say: training, evaluation, --predict or --show_batch."""
    argv = sys.argv[1:] if argv is None else argv
    task.check()
    options, cfg = command_line.parse(task.config, argv)
    if 'predict' in options:
        return predict_command.run(task, cfg, options.predict, options.class_names)
    if 'show_batch' in options:
        return show_batch.run(task, cfg, options.show_batch)
    device = devices.select_for(cfg)
    try:
        with modelarts.transfer(cfg, device.rank) as cfg:
            (_train if cfg.do_train else _evaluate)(task, cfg, device)
    except tf.errors.OpError as error:
        if device.peer_ended(error):
            raise UserError(
                'rank %d stops because another rank has ended, whose message says why' % device.rank
            )
        raise


def _train(task: Task, cfg: Any, device: devices.Device) -> None:
    output = cfg.output_path or os.path.join('runs', task.name)
    cfg = dataclasses.replace(cfg, output_path=output)
    trained = train.train(task, cfg, device)
    if device.is_chief and (trained or not _has_report(output, task.final_checkpoint)):
        from common.reporting import report  # matplotlib: a second, which only the chief needs

        report.write(output)


def _has_report(output: str, final_checkpoint: str) -> bool:
    """Returns whether the report of a complete run was written after its final weights."""
    report = pathlib.Path(output, 'report.md')
    weights = pathlib.Path(output, final_checkpoint + '.index')
    return report.exists() and report.stat().st_mtime >= weights.stat().st_mtime


def _evaluate(task: Task, cfg: Any, device: devices.Device) -> None:
    folder = pipeline.open_split(task, cfg, task.eval_split)
    if device.is_chief:
        warn_without_effect(cfg, device.name)
    result = evaluate.evaluate(task, cfg, device, cfg.model_path, folder)
    if device.is_chief:
        output = cfg.output_path or os.path.dirname(result['checkpoint'])
        print(task.metric.eval_line(task.name, result))
        os.makedirs(output, exist_ok=True)
        evaluate.write(result, output)
