"""What is due at which step of a training run. Plain arithmetic, without TensorFlow."""

from typing import Any, Dict, NamedTuple

from common.data import records
from common.errors import UserError

MOST_STEPS = 2**31 - 1  # learning rates count in int32


class Plan(NamedTuple):
    """global_batch: images per step; evaluate_every: steps between evaluations, the total for one
    at the end alone; evaluates: whether there is an evaluation split.
    """

    global_batch: int
    steps_per_epoch: int
    total: int
    save_every: int
    evaluate_every: int
    evaluates: bool

    def epoch(self, step: int) -> float:
        return round(step / self.steps_per_epoch, 4)

    def next_stop(self, step: int) -> int:
        """Returns the next step at which training pauses for an evaluation, or the last step."""
        return min(self.total, step - step % self.evaluate_every + self.evaluate_every)

    def evaluation_due(self, step: int, evaluated: int) -> bool:
        """Returns whether an evaluation is due at `step`, given the last step that has one.

        A device that loops may stop a few steps late, so `step` need not be one that is planned.
        """
        planned = self.total if step >= self.total else step - step % self.evaluate_every
        return self.evaluates and evaluated < planned

    def intervals(self, log_interval: int, start: int) -> Dict[str, int]:
        """Returns {name: steps} that the steps per call of a device must divide."""
        evaluations = range(self.next_stop(start), self.total, self.evaluate_every)
        stops = [*evaluations[:2], self.total]  # what divides these two divides the others
        return {
            'log_interval': log_interval,
            'checkpoints': self.save_every,
            **{'evaluation or end at step %d' % stop: stop - start for stop in stops},
        }


def make(cfg: Any, count: int, ranks: int, evaluates: bool) -> Plan:
    """Plans a run over `count` training records; UserError if they do not fill one global batch."""
    global_batch = cfg.batch_size * cfg.accumulate * ranks
    per_epoch = records.steps_per_epoch(count, global_batch)

    def steps(epochs: float) -> int:
        return max(1, int(round(epochs * per_epoch)))

    total = cfg.steps or steps(cfg.epochs)
    if cfg.warmup_epochs * per_epoch >= total and not cfg.steps:  # --steps is for trying things
        raise UserError(
            'warmup_epochs: %g are %d steps, and the run has %d; shorten it or train longer'
            % (cfg.warmup_epochs, cfg.warmup_epochs * per_epoch, total)
        )
    if total > MOST_STEPS:
        raise UserError('the run has %.3g steps, at most %d are legal' % (total, MOST_STEPS))
    save_every = cfg.save_checkpoints_steps or steps(cfg.save_interval)
    evaluate_every = steps(cfg.eval_interval) if evaluates and cfg.eval_interval else total
    return Plan(global_batch, per_epoch, total, save_every, evaluate_every, evaluates)
