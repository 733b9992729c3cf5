"""Learning rate as a function of the global step.

Built from comparisons, where, floor, sin and powers only: it runs in a device graph that loops many
steps per call, where nothing may branch or return to Python. Epochs are turned into whole steps,
rounded up.

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
from typing import Any, Union

import numpy as np
import tensorflow as tf


def learning_rate(
    cfg: Any, step: Union[tf.Tensor, int, np.ndarray], total_steps: int, steps_per_epoch: int
) -> Union[tf.Tensor, np.ndarray]:
    """Returns the rate of the update at `step`: a float32 tensor [] of an integer tensor or
    variable []; float64 of a number or NumPy array, without a graph.
    """
    ops = tf if tf.is_tensor(step) else np
    # int64 -> float32 is not an operator of an NPU's AI Core, int64 -> int32 -> float32 is.
    step = tf.cast(tf.cast(step, tf.int32), tf.float32) if ops is tf else np.asarray(step, float)
    warmup = _steps(cfg.warmup_epochs, steps_per_epoch)
    # 1 - p is taken directly: in float32 the subtraction would cost the last rates their digits.
    remaining = (total_steps - step) / max(total_steps - warmup, 1)
    remaining = ops.minimum(ops.maximum(remaining, 0.0), 1.0)
    rate = _decayed(cfg, ops, step, remaining, steps_per_epoch)
    if warmup:
        start = cfg.learning_rate * cfg.warmup_factor
        rising = start + (cfg.learning_rate - start) * (step / warmup)
        rate = ops.where(step < warmup, rising, rate)
    return rate if ops is tf else rate[()]


def _decayed(cfg: Any, ops, step, remaining, steps_per_epoch: int):
    """Returns the rate without warm-up; ops is tf or np, remaining is 1 - p."""
    base = cfg.learning_rate
    ones = ops.ones_like(step)
    if cfg.schedule == 'constant':
        return base * ones
    if cfg.schedule == 'piecewise':
        rate = base * ones
        for boundary, factor in zip(cfg.boundaries, cfg.factors):
            reached = step >= _steps(boundary, steps_per_epoch)
            rate = ops.where(reached, base * factor * ones, rate)
        return rate
    if cfg.schedule == 'exponential':
        decay_steps = max(_steps(cfg.decay_epochs, steps_per_epoch), 1)
        # Half a step keeps the floor right on a device whose division is off by one unit.
        exponent = ops.floor((step + 0.5) / decay_steps) if cfg.staircase else step / decay_steps
        return base * cfg.decay_rate**exponent
    if cfg.schedule == 'cosine':
        remaining = ops.sin(0.5 * math.pi * remaining) ** 2  # (1 + cos(pi p)) / 2, more exactly
    elif cfg.schedule == 'polynomial':
        remaining = remaining**cfg.power
    end = base * cfg.end_factor
    return end + (base - end) * remaining


def _steps(epochs: float, steps_per_epoch: int) -> int:
    """Rounds up; rounded to 6 digits first, as 0.07 * 100 is 7.000000000000001."""
    return math.ceil(round(epochs * steps_per_epoch, 6))
