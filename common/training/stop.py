"""Signals that end a run: training stops after a step, with a checkpoint; all else at once."""

import contextlib
import signal
from typing import Iterator, Optional

import tensorflow as tf

from common import signals
from common.devices.base import Device
from common.devices.exchange import Exchange
from common.training.model_fn import LOSS


class StopOnSignal(tf.train.SessionRunHook):
    """Stops training on every rank at the same step once any rank gets SIGTERM or SIGINT.

    As a context it handles the signals: inside `deferred` after the step, elsewhere, as in an
    evaluation, the process exits. A second one kills it.
    signal: the first signal, agreed upon by all ranks once the training session has ended.
    """

    def __init__(self, device: Device):
        self._device, self._deferred, self._announced = device, False, False
        self.signal: Optional[int] = None

    def __enter__(self) -> 'StopOnSignal':
        self._previous = {n: signal.signal(n, self._handle) for n in signals.SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, _frame):
        if not self._deferred:
            signals.stop(number)
        self.signal = number
        signals.next_one_kills()

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """While it lasts, a signal only asks the training session to end."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def begin(self):
        self._announced = False
        if self._device.size == 1:
            return
        self._wish = tf.get_variable(
            'stop_wish',
            [],
            tf.int32,
            tf.zeros_initializer(),
            trainable=False,
            collections=[tf.GraphKeys.LOCAL_VARIABLES],
        )
        # After the loss: HCCL pairs the messages of ranks by their order. And maximum, because HCCL
        # takes no variable, and wish + 0 would be rewritten to an op that an NPU may not know.
        with tf.control_dependencies([tf.get_default_graph().get_tensor_by_name(LOSS)]):
            self._total = self._device.allreduce_sum(tf.maximum(self._wish, 0), 'stop_wish_sum')
        self._exchange = Exchange(self._device, 1)

    def before_run(self, run_context):
        if self._device.size == 1:
            return None
        if self.signal and not self._announced:
            self._wish.load(1, run_context.session)
            self._announced = True
        return tf.train.SessionRunArgs(self._total)

    def after_run(self, run_context, run_values):
        if self._device.size == 1:
            stops = self.signal is not None
        else:
            stops = bool(run_values.results)
            self.signal = (self.signal or signal.SIGTERM) if stops else self.signal
        if stops:
            run_context.request_stop()

    def end(self, session):
        """Agrees on a signal that came too late for the last step's message."""
        if self._device.size > 1:
            signals = self._exchange.gather(session, bytes([self.signal or 0]))
            self.signal = self.signal or max(sent[0] for sent in signals) or None
