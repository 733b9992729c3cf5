"""Learning rate as a function of the global step.

Built from comparisons, where, floor, sin and powers only: it runs in a device graph that loops many
steps per call, where nothing may branch or return to Python. All counting in epochs is turned into
whole steps here, once.

The first update of the 0-based epoch e is step e * steps_per_epoch. With t = step - warm-up steps,
T = total_steps - warm-up steps and p = min(t / T, 1):
    constant     base
    piecewise    base * factors[i] from boundaries[i] on, in epochs. Boundary 60: the first step of
                 epoch 60 has the new rate.
    exponential  base * decay_rate ^ (step / decay steps), the exponent floored if `staircase`
    cosine       end + (base - end) * (1 + cos(pi p)) / 2, end = base * end_factor
    polynomial   end + (base - end) * (1 - p) ^ power
    linear       end + (base - end) * (1 - p)
The decays reach `end` at step total_steps, when training is over, and stay there. Warm-up is a
straight line from base * warmup_factor (step 0) to base (the first step after it); piecewise and
exponential count their epochs from step 0 all the same.
"""

import math
from typing import Any, List, Union

import numpy as np
import tensorflow as tf

from common.errors import UserError, suggest

REQUIRED = {
    'constant': (),
    'piecewise': ('boundaries', 'factors'),
    'exponential': ('decay_rate', 'decay_epochs'),
    'cosine': (),
    'polynomial': ('power',),
    'linear': (),
}
Steps = Union[tf.Tensor, int, np.ndarray]


def of_recipe(cfg: Any, step: Steps, total_steps: int, steps_per_epoch: int):
    """Returns the configured learning rate at `step`; see `learning_rate`."""
    return learning_rate(
        step,
        schedule=cfg.schedule,
        base=cfg.learning_rate,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=cfg.warmup_epochs,
        warmup_factor=cfg.warmup_factor,
        boundaries=cfg.boundaries,
        factors=cfg.factors,
        decay_rate=cfg.decay_rate,
        decay_epochs=cfg.decay_epochs,
        staircase=cfg.staircase,
        power=cfg.power,
        end_factor=cfg.end_factor,
    )


def learning_rate(
    step: Steps,
    *,
    schedule: str,
    base: float,
    total_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    warmup_factor: float = 0.0,
    end_factor: float = 0.0,
    **options: Any,
) -> Union[tf.Tensor, np.ndarray]:
    """Returns the rate of the update at `step`, as the module's docstring defines it.

    Args:
        step: integer tensor or variable [], or a number or NumPy array, which is computed in
            float64 without a graph (so `learning_rate(0, ...)` checks a configuration).
        warmup_epochs, boundaries, decay_epochs: epochs, fractions allowed; rounded up to steps.
        options: what `schedule` needs, see REQUIRED; staircase.
    Returns:
        float32 scalar tensor; float64 NumPy for a number or array.
    Raises:
        UserError: unknown schedule, missing or impossible argument, before the graph grows.
    """
    _check(schedule, options, base, total_steps, steps_per_epoch)
    _check_factors(schedule, warmup_epochs, warmup_factor=warmup_factor, end_factor=end_factor)
    ops = tf if tf.is_tensor(step) else np
    # int64 -> float32 is not an operator of an NPU's AI Core, int64 -> int32 -> float32 is.
    step = tf.cast(tf.cast(step, tf.int32), tf.float32) if ops is tf else np.asarray(step, float)
    warmup = _steps(warmup_epochs, steps_per_epoch)
    # 1 - p is taken directly: in float32 the subtraction would cost the last rates their digits.
    remains = (total_steps - step) / max(total_steps - warmup, 1)
    remains = ops.minimum(ops.maximum(remains, 0.0), 1.0)
    rate = _decayed(ops, step, remains, schedule, base, steps_per_epoch, base * end_factor, options)
    if warmup:
        start = base * warmup_factor
        rising = start + (base - start) * (step / warmup)
        rate = ops.where(step < warmup, rising, rate)
    return rate if ops is tf else rate[()]


def _decayed(ops, step, remains, schedule, base, steps_per_epoch, end, options):
    """Returns the rate without warm-up; ops is tf or np, remains is 1 - p."""
    ones = ops.ones_like(step)
    if schedule == 'piecewise':
        rate = base * ones
        for boundary, factor in zip(options['boundaries'], options['factors']):
            reached = step >= _steps(boundary, steps_per_epoch)
            rate = ops.where(reached, base * factor * ones, rate)
    elif schedule == 'exponential':
        decay_steps = max(_steps(options['decay_epochs'], steps_per_epoch), 1)
        # Half a step keeps the floor right on a device whose division is off by one unit.
        exponent = step / decay_steps
        if options.get('staircase', True):
            exponent = ops.floor((step + 0.5) / decay_steps)
        rate = base * options['decay_rate'] ** exponent
    elif schedule == 'constant':
        rate = base * ones
    else:
        if schedule == 'cosine':
            remains = ops.sin(0.5 * math.pi * remains) ** 2  # (1 + cos(pi p)) / 2, more exactly
        elif schedule == 'polynomial':
            remains = remains ** options['power']
        rate = end + (base - end) * remains
    return rate


def _steps(epochs: float, steps_per_epoch: int) -> int:
    """Rounds up; rounded to 6 digits first, as 0.07 * 100 is 7.000000000000001."""
    return math.ceil(round(epochs * steps_per_epoch, 6))


def _refuse(schedule: str, name: str, value: Any, legal: str) -> None:
    raise UserError(
        'learning-rate schedule %s: %s is %r but must be %s' % (schedule, name, value, legal)
    )


def _is_finite(value: float) -> bool:
    return value >= 0 and math.isfinite(value)


def _check(schedule, options, base, total_steps, steps_per_epoch) -> None:
    if schedule not in REQUIRED:
        raise UserError(
            'unknown learning-rate schedule %r%s; legal: %s'
            % (schedule, suggest(schedule, REQUIRED), ', '.join(sorted(REQUIRED)))
        )
    needed = REQUIRED[schedule]
    missing = [name for name in needed if options.get(name) is None]
    if missing:
        raise UserError(
            'learning-rate schedule %s needs %s: set %s'
            % (schedule, ' and '.join(needed), ' and '.join(missing))
        )
    if not (_is_finite(base) and base > 0):
        _refuse(schedule, 'base', base, 'a finite rate above 0')
    for name, value in (('total_steps', total_steps), ('steps_per_epoch', steps_per_epoch)):
        if value < 1:
            _refuse(schedule, name, value, 'at least 1')
    for name in set(needed) & {'decay_rate', 'decay_epochs', 'power'}:
        if not (options[name] > 0 and math.isfinite(options[name])):
            _refuse(schedule, name, options[name], 'a finite number above 0')
    if schedule == 'piecewise':
        _check_piecewise(list(options['boundaries']), list(options['factors']))


def _check_piecewise(boundaries: List[float], factors: List[float]) -> None:
    if any(b <= a for a, b in zip([0] + boundaries, boundaries)):
        _refuse('piecewise', 'boundaries', boundaries, 'epochs above 0 in ascending order')
    if len(factors) != len(boundaries):
        _refuse('piecewise', 'factors', factors, '%d factors of the base rate' % len(boundaries))
    if not all(_is_finite(factor) for factor in factors):
        _refuse('piecewise', 'factors', factors, 'finite numbers, none below 0')


def _check_factors(schedule: str, warmup_epochs: float, **factors: float) -> None:
    for name, value in factors.items():
        if not _is_finite(value):
            _refuse(schedule, name, value, 'a finite factor of at least 0')
    if not _is_finite(warmup_epochs):
        _refuse(schedule, 'warmup_epochs', warmup_epochs, 'a number of epochs of at least 0')
