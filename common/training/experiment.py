"""Train, and evaluate while training. Everything periodic is a hook; everything about a model is
its Task.
"""

import json
import os
import pathlib
import platform
import signal
import sys
import tempfile
import time
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import tensorflow as tf

from common import config, devices, modelarts
from common import task as tasks
from common.checkpoints import checkpoint
from common.data import records, sampling
from common.errors import UserError, entry_point
from common.evaluation import evaluation, predict
from common.reporting import report
from common.training import hooks, model_fn


def train(task: tasks.Task, device: devices.Device) -> None:
    """Trains to the end of the recipe, or goes on where the run in --output_path stopped. See the
    run's folder in README.
    """
    cfg, output = task.cfg, task.cfg.output_path
    folder = task.folder(task.train_split)
    eval_folder = (
        task.folder(task.eval_split) if records.has_split(cfg.data_path, task.eval_split) else None
    )
    global_batch = cfg.batch_size * cfg.accumulate * device.size
    per_epoch = sampling.steps_per_epoch(folder.count, global_batch)
    total = cfg.steps or max(1, int(round(cfg.epochs * per_epoch)))
    model_fn.learning_rate(
        cfg, 0, total, per_epoch
    )  # raises what is wrong with it before anything is written
    parameters = sum(
        int(np.prod(shape))
        for name, shape in task.variables(training=True).items()
        if 'moving_' not in name
    )
    start = _agreed_start(output, device)
    save_steps = cfg.save_checkpoints_steps or max(1, int(round(cfg.save_interval * per_epoch)))
    final = os.path.join(output, task.final_checkpoint)

    warm = (
        evaluation.match(task, cfg.model_path, training=True)
        if cfg.model_path and not start and device.is_chief
        else None
    )
    changed = _changed(task, output) if start else {}
    done = start >= total and _agreed(_step(final) >= total if device.is_chief else 0, device)
    journal = hooks.Journal(
        output, device.is_chief, start, evaluates_again=start >= total and not done
    )
    if done:
        journal.say(
            '%s: training is done (step %d of %d); to start over, remove the folder or give another'
            ' --output_path' % (output, start, total)
        )
        return
    if device.is_chief:
        config.save(cfg, pathlib.Path(output, 'config.yaml'), task.name)
    journal.say(
        '%s  device=%s x %d  global batch %d  %d steps/epoch  %d steps  %.2f M parameters'
        % (
            config.summary(cfg),
            device.name,
            device.size,
            global_batch,
            per_epoch,
            total,
            parameters / 1e6,
        )
    )
    for warning in task.warnings(folder, device):
        journal.say('warning: ' + warning)
    if start:
        journal.say('resuming at step %d of %s' % (start, output))
        for key, (old, new) in changed.items():
            journal.say('warning: %s was %s when the run was started, now %s' % (key, old, new))
    if warm:
        journal.say(warm.report)
    journal.record(
        'run',
        model=task.name,
        device=device.name,
        ranks=device.size,
        global_batch=global_batch,
        steps_per_epoch=per_epoch,
        total_steps=total,
        parameters=parameters,
        resumed_from=start,
        software=software(),
    )

    clock, started = hooks.Clock(), time.time()
    goals = _segments(start, total, per_epoch, cfg, bool(eval_folder))
    loop = device.steps_per_loop(
        cfg,
        {
            'log_interval': cfg.log_interval,
            'checkpoints': save_steps,
            **{'evaluation or end at step %d' % goal: goal - start for goal in goals},
        },
    )
    if loop > 1:
        journal.say('%d steps per call of the device' % loop)
    with hooks.StopOnSignal(device) as stop:
        for goal in goals:
            if start >= goal:  # a device that loops may end a few steps late
                continue
            with tempfile.TemporaryDirectory(prefix='rank-') as scratch:
                model_dir = output if device.is_chief else scratch
                estimator = device.estimator(
                    model_fn.build(
                        task,
                        device,
                        total_steps=total,
                        steps_per_epoch=per_epoch,
                        initialize=(lambda: _initialize(warm)) if warm and not start else None,
                    ),
                    cfg,
                    model_dir,
                    save_steps,
                    loop,
                )
                progress = hooks.Progress(
                    journal,
                    clock,
                    interval=cfg.log_interval,
                    steps_per_epoch=per_epoch,
                    total_steps=total,
                    global_batch=global_batch,
                    chief=device.is_chief,
                    model_dir=output,
                    start=start,
                    loop=loop,
                )

                def input_fn():
                    return task.dataset(
                        folder,
                        cfg.batch_size * cfg.accumulate,
                        True,
                        seed=cfg.seed,
                        rank=device.rank,
                        size=device.size,
                        start_step=start,
                    )

                with evaluation.reading(task, checkpoint.latest(output)):
                    # Whole loops of the device, also after skipped steps; `steps` counts from the
                    # step that rank 0 has sent.
                    estimator.train(
                        input_fn,
                        steps=-(-(goal - start) // loop) * loop,
                        hooks=device.broadcast_hooks(True) + [progress, stop],
                    )
            if device.sum_over_ranks([np.array(stop.signal or 0, np.int64)])[
                0
            ]:  # a signal after the last step may have reached one rank only
                number = stop.signal or signal.SIGTERM
                journal.say(
                    'stopped by signal %d; the same command goes on from %s'
                    % (number, checkpoint.latest(output))
                )
                sys.exit(128 + number)
            start = _agreed_start(output, device)
            if eval_folder and goal < total:
                _evaluate_between(task, device, journal, eval_folder, start, per_epoch)
        _finish(task, device, journal, final, eval_folder, per_epoch)
    journal.record(
        'end',
        step=start,
        seconds=round(time.time() - started, 2),
        images_per_second=(
            round(clock.steps * global_batch / clock.seconds, 2) if clock.seconds else None
        ),
    )
    if device.is_chief:
        report.write(pathlib.Path(output))


def _agreed(value: int, device: devices.Device) -> int:
    """Rank 0's value on every rank."""
    return int(device.sum_over_ranks([np.array(value if device.is_chief else 0, np.int64)])[0])


def _agreed_start(output: str, device: devices.Device) -> int:
    """The step that rank 0's newest checkpoint holds; 0 without one."""
    newest = checkpoint.latest(output) if device.is_chief else None
    if (
        newest and tf.train.latest_checkpoint(output) != newest
    ):  # which the Estimator would take, or nothing if its files are gone
        older = tf.train.get_checkpoint_state(output).all_model_checkpoint_paths
        tf.train.update_checkpoint_state(
            output, newest, [path for path in older if os.path.exists(path + '.index')]
        )
    return _agreed(_step(newest) if newest else 0, device)


def _step(path: str) -> int:
    """The step of a checkpoint, -1 if there is none."""
    return checkpoint.Checkpoint(path).step or 0 if os.path.exists(path + '.index') else -1


def _changed(task: tasks.Task, output: str) -> Dict[str, Any]:
    saved = pathlib.Path(output, 'config.yaml')
    ignored = ('output_path', 'data_path', 'model_path', 'do_train')
    return (
        {
            k: v
            for k, v in config.changes(task.cfg, config.read_yaml(saved)).items()
            if k not in ignored
        }
        if saved.exists()
        else {}
    )


def _segments(start: int, total: int, per_epoch: int, cfg, evaluates: bool) -> List[int]:
    """Steps at which training pauses for an evaluation, and the last one."""
    goals = []
    if evaluates and cfg.eval_interval:
        every = max(1, int(round(cfg.eval_interval * per_epoch)))
        goals = [
            step
            for step in range(every, total, every)
            if step > start and step >= cfg.eval_first * per_epoch
        ]
    return goals + [total]


def _initialize(warm: checkpoint.Match) -> None:
    names = {variable.op.name: variable for variable in tf.global_variables()}
    tf.train.init_from_checkpoint(
        warm.checkpoint.path, {source: names[name] for name, source in warm.names.items()}
    )


def _evaluate_between(
    task, device, journal, eval_folder, step: int, per_epoch: int
) -> Dict[str, Any]:
    """Evaluates the newest checkpoint, records it and keeps a copy of the best."""
    newest = checkpoint.latest(task.cfg.output_path) if device.is_chief else None
    result = evaluation.evaluate(task, device, newest, eval_folder)
    journal.say('step %d: %s' % (step, task.eval_line(result)))
    journal.record(
        'eval',
        step=step,
        epoch=round(step / per_epoch, 4),
        **{
            key: value
            for key, value in result.items()
            if isinstance(value, (int, float)) and key != 'step'
        },
    )
    if device.is_chief:
        _keep_best(task, result)
    return result


def _keep_best(task: tasks.Task, result: Dict[str, Any]) -> None:
    if task.best_metric not in result:  # a split without labels
        return
    best = pathlib.Path(task.cfg.output_path, 'best')
    best.mkdir(exist_ok=True)
    note = best / 'best.json'
    if note.exists() and json.loads(note.read_text())[task.best_metric] >= result[task.best_metric]:
        return
    name = pathlib.Path(result['checkpoint']).name
    checkpoint.move(result['checkpoint'], best / name, keep=True)
    evaluation.write_json(
        str(note),
        {key: value for key, value in result.items() if key not in ('counts', 'checkpoint')},
    )
    for old in best.glob('model.ckpt-*'):
        if not old.name.startswith(name + '.'):
            old.unlink()


def _finish(task, device, journal, final: str, eval_folder, per_epoch: int) -> None:
    """Evaluates where there is an evaluation split. Then, as the last thing, writes the final
    weights-only checkpoint.
    """
    step = _agreed_start(task.cfg.output_path, device)
    if eval_folder:
        result = _evaluate_between(task, device, journal, eval_folder, step, per_epoch)
        if device.is_chief:
            result['checkpoint'] = os.path.abspath(final)
            evaluation.write(result, task.cfg.output_path)
    if device.is_chief:
        newest = checkpoint.latest(task.cfg.output_path)
        checkpoint.export(evaluation.match(task, newest, training=True), final)
        journal.say('final checkpoint: %s (weights only)' % final)


def software() -> Dict[str, str]:
    cpu = (
        next(
            (
                line.split(':')[1].strip()
                for line in open('/proc/cpuinfo')
                if line.startswith('model name')
            ),
            platform.machine(),
        )
        if os.path.exists('/proc/cpuinfo')
        else platform.machine()
    )
    return {
        'python': platform.python_version(),
        'tensorflow': tf.__version__,
        'numpy': np.__version__,
        'cpu': cpu,
        'cores': str(os.cpu_count()),
    }


@entry_point
def run(task_class: type, argv: Optional[Sequence[str]] = None) -> None:
    """The whole of a model's run script: flags -> configuration -> train or evaluate, or --predict
    image files.
    """
    argv = sys.argv[1:] if argv is None else argv
    if any(word.split('=')[0] == '--predict' for word in argv):
        predict.run(task_class, argv)
        return
    task = tasks.build(task_class.name, argv)
    device = devices.select(task.cfg.device)
    try:
        with modelarts.transfer(task.cfg, device.rank):
            if task.cfg.do_train:
                task.cfg.output_path = task.cfg.output_path or os.path.join('runs', task.name)
                train(task, device)
            else:
                _evaluate_only(task, device)
    except tf.errors.OpError as error:
        if device.peer_ended(error):
            raise UserError(
                'rank %d stops because another rank has ended, whose message says why' % device.rank
            )
        raise


def _evaluate_only(task: tasks.Task, device: devices.Device) -> None:
    cfg = task.cfg
    if not cfg.model_path:
        raise UserError(
            '--model_path: evaluation needs a checkpoint; to train, give --do_train True'
        )
    result = evaluation.evaluate(task, device, cfg.model_path)
    if device.is_chief:
        output = cfg.output_path or os.path.dirname(result['checkpoint'])
        print(task.eval_line(result))
        os.makedirs(output, exist_ok=True)
        evaluation.write(result, output)
