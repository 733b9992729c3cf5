"""Everything that happens now and then during training: checkpoints, progress, NaN, signals."""

import json
import math
import os
import signal
import sys
import time
from typing import Any, Dict, Optional

import tensorflow as tf
import tqdm

from common.checkpoints.saver import diverged
from common.files import atomic

# Tensors that model_fn names; the step is the one after the update.
STEP, LOSS, LEARNING_RATE = 'train/global_step:0', 'train/loss:0', 'train/learning_rate:0'


class Journal:
    """A run's written record: metrics.jsonl (one JSON object a line), log.txt, console and
    TensorBoard. Silent off rank 0.
    """

    def __init__(
        self, folder: str, chief: bool, resumed_from: int = 0, evaluates_again: bool = False
    ):
        self._chief = chief
        if not chief:
            return
        os.makedirs(folder, exist_ok=True)
        self._path = os.path.join(folder, 'metrics.jsonl')
        self._forget_after(resumed_from, evaluates_again)
        self._log = open(os.path.join(folder, 'log.txt'), 'a')
        self._events = tf.summary.FileWriter(folder)

    def _forget_after(self, step: int, evaluates_again: bool) -> None:
        """Drops what a killed run wrote after its last checkpoint: those steps (and maybe that
        checkpoint's evaluation) are done again.
        """
        if os.path.exists(self._path):
            kept = []
            with open(self._path) as lines:
                for line in lines:
                    try:
                        row = json.loads(line)
                        if row.get('step', 0) <= step and not (
                            evaluates_again and row['kind'] == 'eval' and row['step'] == step
                        ):
                            kept.append(line)
                    except ValueError:
                        pass  # the line that was being written when the run was killed
            with atomic(self._path) as temporary:
                temporary.write_text(''.join(kept))

    def say(self, text: str) -> None:
        """One line on the console and in log.txt."""
        if self._chief:
            tqdm.tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()
            self._log.write(text + '\n')
            self._log.flush()

    def record(self, kind: str, **values: Any) -> None:
        """Appends to metrics.jsonl; the numbers of lines with a step go to TensorBoard as well."""
        if not self._chief:
            return
        with open(self._path, 'a') as lines:
            lines.write(json.dumps(dict(kind=kind, **values, time=round(time.time(), 3))) + '\n')
        if 'step' in values:
            scalars = [
                tf.Summary.Value(tag='%s/%s' % (kind, key), simple_value=value)
                for key, value in values.items()
                if key != 'step' and isinstance(value, (int, float))
            ]
            self._events.add_summary(tf.Summary(value=scalars), values['step'])
            self._events.flush()


class Clock:
    """Time spent in training steps: without each session's first step (compilation, warm-up),
    saving and evaluation.
    """

    def __init__(self):
        self.seconds, self.steps = 0.0, 0

    def add(self, seconds: float, steps: int) -> None:
        self.seconds += seconds
        self.steps += steps


class Progress(tf.train.SessionRunHook):
    """Logs every `interval` steps: `epoch: 2 step: 195, loss is 1.4352043, 210.3 img/s, lr 0.1, ETA
    0:01:02`; a bar on a terminal.

    A loss that is not finite stops the run with an error that names step, learning rate and the
    last good checkpoint. Steps that loss scaling skipped are counted. start: the step the session
    starts at; loop: steps per session.run.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        *,
        interval: int,
        steps_per_epoch: int,
        total_steps: int,
        global_batch: int,
        chief: bool,
        model_dir: str,
        start: int = 0,
        loop: int = 1,
    ):
        self._journal, self._clock, self._interval, self._chief = journal, clock, interval, chief
        self._steps_per_epoch, self._total, self._batch, self._model_dir = (
            steps_per_epoch,
            total_steps,
            global_batch,
            model_dir,
        )
        self._step, self._loop = start, loop
        self._recent, self._warm, self._skipped = Clock(), False, 0
        self._bar = None

    def after_create_session(self, session, coord):
        self._warm = False
        if self._chief and sys.stderr.isatty():
            self._bar = tqdm.tqdm(total=self._total, unit='step', dynamic_ncols=True, leave=False)

    def before_run(self, run_context):
        self._start = time.perf_counter()
        return tf.train.SessionRunArgs([STEP, LOSS, LEARNING_RATE])

    def after_run(self, run_context, run_values):
        seconds = time.perf_counter() - self._start
        before, self._step = self._step, int(run_values.results[0])
        loss, learning_rate = (float(value) for value in run_values.results[1:])
        self._skipped += self._loop - (self._step - before)
        # the first run of a session compiles and warms up; a skipped step's images were processed
        # as well
        if self._warm:
            self._clock.add(seconds, self._loop)
            self._recent.add(seconds, self._loop)
        self._warm = True
        if not math.isfinite(loss):
            raise diverged(
                'loss is %s at step %d (learning rate %.6g)' % (loss, self._step, learning_rate),
                self._model_dir,
            )
        if self._bar is not None:
            self._bar.update(self._step - self._bar.n)
        if self._step // self._interval > before // self._interval or self._step >= self._total:
            self._log(loss, learning_rate)

    def _log(self, loss: float, learning_rate: float) -> None:
        rate = self._recent.steps / self._recent.seconds if self._recent.seconds else 0.0
        eta = (
            max(0, self._total - self._step) / rate if rate else 0.0
        )  # a device that loops may end a few steps late
        skipped = {'skipped_steps': self._skipped} if self._skipped else {}
        self._journal.say(
            'epoch: %d step: %d, loss is %.7f, %.1f img/s, lr %.6g, ETA %s%s'
            % (
                (self._step - 1) // self._steps_per_epoch + 1,
                (self._step - 1) % self._steps_per_epoch + 1,
                loss,
                rate * self._batch,
                learning_rate,
                '%d:%02d:%02d' % (eta // 3600, eta % 3600 // 60, eta % 60),
                ', %d steps skipped by loss scaling' % self._skipped if self._skipped else '',
            )
        )
        self._journal.record(
            'train',
            step=self._step,
            epoch=round(self._step / self._steps_per_epoch, 4),
            loss=loss,
            learning_rate=learning_rate,
            images_per_second=round(rate * self._batch, 2),
            **skipped,
        )
        self._recent, self._skipped = Clock(), 0

    def end(self, session):
        if self._bar is not None:
            self._bar.close()


class StopOnSignal(tf.train.SessionRunHook):
    """SIGTERM and SIGINT end training after the step under way, so that the saver writes a last
    checkpoint.

    Ranks may get the signal at different steps. So the wish to stop is summed over ranks inside
    each step: all stop at the same one.
    """

    def __init__(self, device):
        self._device = device
        self.signal: Optional[int] = None
        self._previous: Dict[int, Any] = {}

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        self.signal = number

    def begin(self):
        self._told = False
        self._wish = tf.get_variable(
            'stop_wish',
            [],
            tf.int32,
            tf.zeros_initializer(),
            trainable=False,
            collections=[tf.GraphKeys.LOCAL_VARIABLES],
        )
        # Not the variable itself, which HCCL does not take; and wish + 0 would be rewritten to a
        # Snapshot, which an NPU may not know.
        self._total = self._device.allreduce_sum(tf.maximum(self._wish, 0), 'stop_wish_sum')

    def before_run(self, run_context):
        if self._device.size == 1:
            return None
        if self.signal and not self._told:
            self._wish.load(1, run_context.session)
            self._told = True
        return tf.train.SessionRunArgs(self._total)

    def after_run(self, run_context, run_values):
        if self._device.size > 1 and run_values.results:
            self.signal = self.signal or signal.SIGTERM
        if self.signal and (self._device.size == 1 or run_values.results):
            run_context.request_stop()
