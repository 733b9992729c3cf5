"""Progress of training: the start, log lines, a bar on a terminal, throughput, and the check of the
loss.
"""

import datetime
import math
import time
from typing import Callable, Dict, Optional

import numpy as np
import psutil
import tensorflow as tf
import tqdm

from common.checkpoints.saver import diverged
from common.training.metrics_logger import MetricsLogger
from common.training.model_fn import LEARNING_RATE, LOSS, STEP
from common.training.plan import Plan


class ThroughputMeter:
    """Time spent in training steps, without each session's first one, saving and evaluation."""

    def __init__(self):
        self.seconds, self.steps = 0.0, 0

    def add(self, seconds: float, steps: int) -> None:
        self.seconds += seconds
        self.steps += steps

    @property
    def steps_per_second(self) -> Optional[float]:
        """None before anything was measured."""
        return self.steps / self.seconds if self.seconds else None


class FirstStep(tf.train.SessionRunHook):
    """Reports, once, the number of parameters and the seconds that the way to the first step took,
    {'imports', 'checks', 'graph', 'session', 'step'}.
    """

    PARTS = ('imports', 'checks', 'graph', 'session', 'step')

    def __init__(self, imports_done: float, report: Callable[[int, Dict[str, float]], None]):
        """imports_done: in seconds since 1970; the checks are done now."""
        self._report, self._parameters = report, 0
        self._times = [psutil.Process().create_time(), imports_done, time.time()]

    def begin(self):
        self._parameters = sum(v.shape.num_elements() for v in tf.trainable_variables())
        self._add_time('graph')

    def after_create_session(self, session, coord):
        self._add_time('session')

    def after_run(self, run_context, run_values):
        if self._add_time('step'):
            seconds = np.diff(self._times).round(2).tolist()
            self._report(self._parameters, dict(zip(self.PARTS, seconds)))

    def _add_time(self, part: str) -> bool:
        """Returns False for the sessions after the first."""
        if len(self._times) > self.PARTS.index(part) + 1:
            return False
        self._times.append(time.time())
        return True


def log_first_step(logger: MetricsLogger, parameters: int, seconds: Dict[str, float]) -> None:
    """Writes what FirstStep reports."""
    parts = ', '.join('%s %.1f' % part for part in seconds.items())
    logger.log(
        '%.2f M parameters; first step after %.1f s (%s)'
        % (parameters / 1e6, sum(seconds.values()), parts)
    )
    logger.record('start', parameters=parameters, start_seconds=seconds)


class Progress(tf.train.SessionRunHook):
    """Logs `epoch: 2 step: 195, loss is 1.4352043, 210.3 img/s, lr 0.1, ETA 0:01:02`.

    A loss that is not finite stops the run. Steps that loss scaling skipped are counted.
    """

    def __init__(
        self,
        logger: MetricsLogger,
        meter: ThroughputMeter,
        plan: Plan,
        *,
        interval: int,
        show_bar: bool,
        model_dir: str,
        start: int = 0,
        loop: int = 1,
    ):
        """interval: steps between log lines; start: first step; loop: steps per session.run."""
        self._logger, self._meter, self._plan, self._interval = logger, meter, plan, interval
        self._show_bar, self._model_dir, self._loop = show_bar, model_dir, loop
        self.step = start
        self._recent, self._warm, self._skipped = ThroughputMeter(), False, 0

    def after_create_session(self, session, coord):
        self._bar = tqdm.tqdm(
            total=self._plan.total,
            unit='step',
            dynamic_ncols=True,
            leave=False,
            disable=None if self._show_bar else True,
        )

    def before_run(self, run_context):
        self._start = time.perf_counter()
        return tf.train.SessionRunArgs([STEP, LOSS, LEARNING_RATE])

    def after_run(self, run_context, run_values):
        seconds = time.perf_counter() - self._start
        before, self.step = self.step, int(run_values.results[0])
        loss, rate = (float(value) for value in run_values.results[1:])
        self._skipped += self._loop - (self.step - before)
        if self._warm:  # the images of a skipped step were processed as well
            self._meter.add(seconds, self._loop)
            self._recent.add(seconds, self._loop)
        self._warm = True
        if not math.isfinite(loss):
            problem = 'loss is %s at step %d (learning rate %.6g)' % (loss, self.step, rate)
            raise diverged(problem, self._model_dir)
        self._bar.update(self.step - self._bar.n)
        crossed = self.step // self._interval > before // self._interval
        if crossed or self.step >= self._plan.total:
            self._log(loss, rate)

    def _log(self, loss: float, learning_rate: float) -> None:
        plan, speed = self._plan, self._recent.steps_per_second
        remaining = max(0, plan.total - self.step)  # a device that loops may end a few steps late
        images = round(speed * plan.global_batch, 2) if speed else None
        eta = datetime.timedelta(seconds=int(remaining / speed)) if speed else '-'
        text = 'epoch: %d step: %d, loss is %.7f, %s img/s, lr %.6g, ETA %s' % (
            (self.step - 1) // plan.steps_per_epoch + 1,
            (self.step - 1) % plan.steps_per_epoch + 1,
            loss,
            '%.1f' % images if speed else '-',
            learning_rate,
            eta,
        )
        if self._skipped:
            text += ', %d steps skipped by loss scaling' % self._skipped
        self._logger.log(text)
        self._logger.record(
            'train',
            step=self.step,
            epoch=plan.epoch(self.step),
            loss=loss,
            learning_rate=learning_rate,
            images_per_second=images,
            **({'skipped_steps': self._skipped} if self._skipped else {}),
        )
        self._recent, self._skipped = ThroughputMeter(), 0

    def end(self, session):
        self._bar.close()
