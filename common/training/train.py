"""Trains, and evaluates while training. What is periodic is a hook; what a model is, its Task."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from common import host
from common.checkpoints import checkpoint, restore
from common.configuration import config
from common.configuration.fields import without_effect
from common.data import pipeline, records
from common.devices.base import Device
from common.errors import UserError
from common.evaluation import evaluate, show_batch
from common.evaluation.errors import translated
from common.files import read_json, temporary_folder, write_json
from common.task import Task
from common.training import agreement, global_batch, model_fn, resume
from common.training import plan as plans
from common.training.metrics_logger import MetricsLogger
from common.training.progress import FirstStep, Progress, ThroughputMeter, log_first_step
from common.training.run_lock import locked
from common.training.stop import StopOnSignal

SHOWN = 16  # images of the first batch in TensorBoard


class Run(NamedTuple):
    """What the parts of one training session share."""

    task: Task
    cfg: Any
    device: Device
    plan: plans.Plan
    folder: records.Folder
    eval_folder: Optional[records.Folder]
    logger: MetricsLogger
    meter: ThroughputMeter
    first_step: FirstStep
    warm_start: Optional[restore.RestorePlan]


def train(task: Task, cfg: Any, device: Device) -> bool:
    """Trains to the end of the recipe, or goes on where the run in --output_path stopped.

    Returns False if the run was complete already.
    """
    start_time = time.time()
    cfg, notes = global_batch.divide(cfg, device.size)
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopOnSignal(device))
        run, step, evaluated = _start(task, cfg, device, notes, stack, start_time)
        if run is None:
            return False
        plan = run.plan
        loop = device.steps_per_loop(cfg, plan.intervals(cfg.log_interval, step))
        if loop > 1:
            run.logger.log('%d steps per call of the device' % loop)
        while step < plan.total:
            if plan.evaluation_due(step, evaluated):
                _evaluate(run, step)
                evaluated = step
            step = _train_until(run, stop, step, plan.next_stop(step), loop)
        _finish(run, step, evaluated, start_time)
    return True


def _start(task, cfg, device, notes: List[str], stack: contextlib.ExitStack, start_time: float):
    """Checks everything that can be refused, then writes the first line. Returns (Run, step, the
    last step that has an evaluation).

    The Run is None if the run in the folder is complete. `stack` keeps the folder's lock.
    """
    folder = pipeline.open_split(task, cfg, task.train_split)
    evaluates = records.has_split(cfg.data_path, task.eval_split)
    eval_folder = pipeline.open_split(task, cfg, task.eval_split) if evaluates else None
    plan = plans.make(cfg, folder.count, device.size, evaluates)
    notes = notes + without_effect(cfg, device.name) + cfg.training_notes(device.size)
    data = {task.train_split: resume.fingerprint(folder)}
    if eval_folder:
        data[task.eval_split] = resume.fingerprint(eval_folder)
    start, warm_start = resume.ResumePoint(), None
    agreed: Dict[str, Any] = {}
    if device.is_chief:
        try:
            stack.enter_context(locked(cfg.output_path))
            start = resume.find_start(task, cfg, plan.total, data)
            if cfg.model_path and not start.step:
                warm_start = restore.plan_restore(task, cfg, cfg.model_path, training=True)
            agreed = {'step': start.step, 'done': start.done, 'evaluated': start.evaluated}
        except UserError as error:
            agreed = {'error': str(error)}
    agreed = agreement.agree(device, cfg, data, agreed)
    if device.is_chief and not start.done:
        resume.prepare_folder(cfg, start)
    logger = MetricsLogger(cfg.output_path, device.is_chief, agreed['step'])
    if agreed['done']:
        logger.log(
            '%s: training is complete (step %d of %d); to train again, give another --output_path'
            ' or --restart True' % (cfg.output_path, agreed['step'], plan.total)
        )
        return None, agreed['step'], agreed['evaluated']
    if device.is_chief:
        saved_cfg = dataclasses.replace(cfg, restart=False)  # whoever starts from it resumes
        config.save(saved_cfg, pathlib.Path(cfg.output_path, 'config.yaml'), task.name)
    first = FirstStep(start_time, functools.partial(log_first_step, logger))
    meter = ThroughputMeter()
    run = Run(task, cfg, device, plan, folder, eval_folder, logger, meter, first, warm_start)
    if device.is_chief:
        _log_start(run, agreed['step'], data, notes, start.notes)
    return run, agreed['step'], agreed['evaluated']


def _log_start(run: Run, step: int, data: Dict[str, str], warnings, notes) -> None:
    plan, device, logger = run.plan, run.device, run.logger
    logger.log(
        '%s  device=%s x %d  global batch %d  %d steps/epoch  %d steps'
        % (
            config.summary(run.cfg),
            device.name,
            device.size,
            plan.global_batch,
            plan.steps_per_epoch,
            plan.total,
        )
    )
    software = host.describe()
    logger.log(', '.join('%s %s' % item for item in software.items()))
    for note in ['warning: ' + warning for warning in warnings] + list(notes):
        logger.log(note)
    if run.warm_start:
        logger.log(run.warm_start.report)
    logger.record(
        'run',
        model=run.task.name,
        device=device.name,
        ranks=device.size,
        global_batch=plan.global_batch,
        steps_per_epoch=plan.steps_per_epoch,
        total_steps=plan.total,
        resumed_from=step,
        data=data,
        warnings=warnings,
        software=software,
    )
    if not step:
        images = show_batch.draw(run.task, run.cfg, run.folder, SHOWN)
        logger.picture('training images', images, step)


def _train_until(run: Run, stop: StopOnSignal, start: int, end: int, loop: int) -> int:
    """Trains from step `start` to `end` and returns the step reached; a signal ends the process.

    loop: steps per session.run; the last call may go a few steps beyond the end.
    """
    task, cfg, device, plan = run.task, run.cfg, run.device, run.plan
    progress = Progress(
        run.logger,
        run.meter,
        plan,
        interval=cfg.log_interval,
        show_bar=device.is_chief,
        model_dir=cfg.output_path,
        start=start,
        loop=loop,
    )

    def input_fn():
        batch = cfg.batch_size * cfg.accumulate
        shard = dict(rank=device.rank, size=device.size, start_step=start)
        return pipeline.dataset(task, run.folder, cfg, batch, True, seed=cfg.seed, **shard)

    newest = checkpoint.latest(cfg.output_path) if device.is_chief else None
    with stop.deferred(), temporary_folder('rank') as scratch, translated(task, cfg, newest):
        model_dir = cfg.output_path if device.is_chief else str(scratch)
        estimator = device.estimator(_model_fn(run, start), cfg, model_dir, plan.save_every, loop)
        # Whole calls of the device; `steps` counts from the step that rank 0 has sent.
        steps = -(-(end - start) // loop) * loop
        estimator.train(
            input_fn,
            steps=steps,
            hooks=device.session_hooks(True) + [run.first_step, progress, stop],
        )
    if stop.signal:
        run.logger.log(
            'stopped by signal %d; the same command resumes at step %d'
            % (stop.signal, progress.step)
        )
        sys.exit(128 + stop.signal)
    return progress.step


def _model_fn(run: Run, start: int) -> Callable:
    """Returns the training graph's function; a warm start sets initial values at step 0."""
    warm_start = run.warm_start if not start else None
    return model_fn.build(
        run.task,
        run.cfg,
        run.device,
        total_steps=run.plan.total,
        steps_per_epoch=run.plan.steps_per_epoch,
        initialize=(lambda: restore.initialize_from(warm_start)) if warm_start else None,
    )


def _evaluate(run: Run, step: int, record: bool = True) -> Dict[str, Any]:
    """Evaluates the newest checkpoint, keeps a copy of the best and records the figures, unless an
    earlier session has recorded them.
    """
    path = run.cfg.output_path  # for the message if there is no checkpoint any more
    newest = (checkpoint.latest(path) or path) if run.device.is_chief else None
    result = evaluate.evaluate(run.task, run.cfg, run.device, newest, run.eval_folder)
    run.logger.log('step %d: %s' % (step, run.task.metric.eval_line(run.task.name, result)))
    if run.device.is_chief:
        _keep_best(run, result)
        if record:
            numbers = {
                key: value for key, value in result.items() if isinstance(value, (int, float))
            }
            run.logger.record('eval', **dict(numbers, step=step, epoch=run.plan.epoch(step)))
    return result


def _keep_best(run: Run, result: Dict[str, Any]) -> None:
    """Copies the evaluated checkpoint to best/ if none was better so far."""
    key = run.task.metric.BEST
    if key not in result:  # a split without labels
        return
    best = pathlib.Path(run.cfg.output_path, 'best')
    best.mkdir(exist_ok=True)
    note = best / 'best.json'
    if note.exists() and _best_so_far(note, key) >= result[key]:
        return
    name = pathlib.Path(result['checkpoint']).name
    checkpoint.move(result['checkpoint'], best / name, keep=True)
    figures = {k: value for k, value in result.items() if k not in ('counts', 'checkpoint')}
    write_json(note, figures)
    for old in best.glob('model.ckpt-*'):
        if not old.name.startswith(name + '.'):
            old.unlink()


def _best_so_far(note: pathlib.Path, key: str) -> float:
    try:
        return float(read_json(note)[key])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            '%s cannot be read (%s); remove it, and the best is kept anew' % (note, error)
        )


def _finish(run: Run, step: int, evaluated: int, start_time: float) -> None:
    """Evaluates where there is a split for it, writes the final weights and the last row."""
    final = os.path.join(run.cfg.output_path, run.task.final_checkpoint)
    if run.eval_folder:
        result = _evaluate(run, step, record=evaluated < step)
        if run.device.is_chief:
            evaluate.write(dict(result, checkpoint=os.path.abspath(final)), run.cfg.output_path)
    if run.device.is_chief:
        newest = checkpoint.latest(run.cfg.output_path) or run.cfg.output_path
        restore.export(restore.plan_restore(run.task, run.cfg, newest, training=True), final)
        run.logger.log('final checkpoint: %s (weights only)' % final)
    speed = run.meter.steps_per_second
    run.logger.record(
        'end',
        step=step,
        seconds=round(time.time() - start_time, 2),
        images_per_second=round(speed * run.plan.global_batch, 2) if speed else None,
    )
