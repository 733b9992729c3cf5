"""Learning rate as a function of the global step.

Built from comparisons, where, floor, sin and powers only: it runs in a device graph that loops many
steps per call, where nothing may branch or return to Python. All counting in epochs is turned into
whole steps here, once.
"""

import math
from typing import Optional, Sequence, Union

import numpy as np
import tensorflow as tf

from common.errors import UserError, suggest

REQUIRED = {
    'constant': (),
    'piecewise': ('boundaries', 'values'),
    'exponential': ('decay_rate', 'decay_epochs'),
    'cosine': (),
    'polynomial': ('power',),
    'linear': (),
}


def learning_rate(
    step: Union[tf.Tensor, int, np.ndarray],
    *,
    schedule: str,
    base: float,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    warmup_start: float = 0.0,
    boundaries: Optional[Sequence[float]] = None,
    values: Optional[Sequence[float]] = None,
    decay_rate: Optional[float] = None,
    decay_epochs: Optional[float] = None,
    staircase: bool = True,
    power: Optional[float] = None,
    end: float = 0.0,
) -> Union[tf.Tensor, np.ndarray]:
    """The rate used by the update at `step` (0-based; the first update of epoch e is step e *
    steps_per_epoch).

    With t = step - warm-up steps, T = total_steps - warm-up steps and p = min(t / T, 1):
        constant     base
        piecewise    values[i], i = number of boundaries (in epochs) reached; values are learning
                     rates, one more than
                     boundaries, and the first of them is base. Boundary 60: the first step of the
                     0-based epoch 60 has the new rate. WideResNet paper: boundaries [60, 120, 160],
                     values [0.1, 0.02, 0.004, 0.0008].
        exponential  base * decay_rate ^ (step / decay steps); the exponent is floored if
                     `staircase`.
        cosine       end + (base - end) * (1 + cos(pi p)) / 2
        polynomial   end + (base - end) * (1 - p) ^ power
        linear       end + (base - end) * (1 - p)
    The decays reach `end` at step total_steps, when training is over, and stay there. Warm-up
    replaces the first warmup_epochs by a straight line from warmup_start (step 0) to base (first
    step after it); piecewise and exponential still count their epochs from step 0.

    Args:
        step: integer tensor or variable [], or a number or NumPy array, which is computed in
        float64 without a graph (so
            `learning_rate(0, ...)` is the check of a configuration).
        warmup_epochs, boundaries, decay_epochs: epochs, fractions allowed; rounded up to whole
        steps.
    Returns:
        float32 scalar tensor; float64 NumPy for a number or array.
    Raises:
        UserError: unknown schedule, missing or impossible argument. Raised before anything is added
        to the graph.
    """
    given = dict(
        boundaries=boundaries,
        values=values,
        decay_rate=decay_rate,
        decay_epochs=decay_epochs,
        power=power,
    )
    _check(
        schedule,
        given,
        base=base,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=warmup_epochs,
        warmup_start=warmup_start,
        end=end,
    )

    def steps(epochs):
        return math.ceil(
            round(epochs * steps_per_epoch, 6)
        )  # rounded first: 0.07 * 100 is 7.000000000000001

    ops = tf if tf.is_tensor(step) else np
    step = tf.cast(step, tf.float32) if ops is tf else np.asarray(step, np.float64)
    ones = ops.ones_like(step)
    warmup_steps = steps(warmup_epochs)
    # The share that remains, 1 - p, is taken directly: in float32 the subtraction would cost the
    # last rates their digits.
    remains = ops.minimum(
        ops.maximum((total_steps - step) / max(total_steps - warmup_steps, 1), 0.0), 1.0
    )

    if schedule == 'piecewise':
        rate = values[0] * ones
        for boundary, value in zip(boundaries, values[1:]):
            rate = ops.where(step >= steps(boundary), value * ones, rate)
    elif schedule == 'exponential':
        decay_steps = max(steps(decay_epochs), 1)
        # Half a step keeps the floor right on a device whose division is off by one unit in the
        # last place.
        exponent = ops.floor((step + 0.5) / decay_steps) if staircase else step / decay_steps
        rate = base * decay_rate**exponent
    elif schedule == 'cosine':
        rate = (
            end + (base - end) * ops.sin(0.5 * math.pi * remains) ** 2
        )  # (1 + cos(pi p)) / 2, without cancellation
    elif schedule == 'polynomial':
        rate = end + (base - end) * remains**power
    elif schedule == 'linear':
        rate = end + (base - end) * remains
    else:
        rate = base * ones
    if warmup_steps:
        rate = ops.where(
            step < warmup_steps, warmup_start + (base - warmup_start) * (step / warmup_steps), rate
        )
    return rate if ops is tf else rate[()]


def _check(schedule, given, *, total_steps, steps_per_epoch, warmup_epochs, **rates):
    def refuse(name, value, legal):
        raise UserError(
            'learning-rate schedule %s: %s is %r but must be %s' % (schedule, name, value, legal)
        )

    if schedule not in REQUIRED:
        raise UserError(
            'unknown learning-rate schedule %r%s; legal: %s'
            % (schedule, suggest(schedule, REQUIRED), ', '.join(sorted(REQUIRED)))
        )
    missing = [name for name in REQUIRED[schedule] if given[name] is None]
    if missing:
        raise UserError(
            'learning-rate schedule %s needs %s: set %s'
            % (schedule, ' and '.join(REQUIRED[schedule]), ' and '.join(missing))
        )
    for name, value in rates.items():
        if not (value >= 0 and math.isfinite(value)) or (name == 'base' and value == 0):
            refuse(
                name,
                value,
                'a finite rate above 0' if name == 'base' else 'a finite rate of at least 0',
            )
    for name, value in (('total_steps', total_steps), ('steps_per_epoch', steps_per_epoch)):
        if value < 1:
            refuse(name, value, 'at least 1')
    if not (warmup_epochs >= 0 and math.isfinite(warmup_epochs)):
        refuse('warmup_epochs', warmup_epochs, 'a number of epochs of at least 0')
    if schedule == 'piecewise':
        boundaries, values = list(given['boundaries']), list(given['values'])
        if any(b <= a for a, b in zip([0] + boundaries, boundaries)):
            refuse('boundaries', boundaries, 'epochs above 0 in rising order')
        if len(values) != len(boundaries) + 1:
            refuse(
                'values',
                values,
                '%d learning rates, one more than the %d boundaries'
                % (len(boundaries) + 1, len(boundaries)),
            )
        if not all(value >= 0 and math.isfinite(value) for value in values):
            refuse('values', values, 'finite learning rates, none below 0')
        if not math.isclose(
            values[0], rates['base']
        ):  # else a changed base rate would silently do nothing
            refuse(
                'values',
                values,
                'a table that starts with the base learning rate %g; change both alike'
                % rates['base'],
            )
    for name in set(REQUIRED[schedule]) & {'decay_rate', 'decay_epochs', 'power'}:
        if not (given[name] > 0 and math.isfinite(given[name])):
            refuse(name, given[name], 'a finite number above 0')
