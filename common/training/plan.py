"""What is due at which step of a training run. Plain arithmetic, without TensorFlow."""

from typing import Any, Dict, List, NamedTuple

from common.data import records
from common.errors import UserError

MOST_STEPS = 2**31 - 1  # learning rates count in int32
MOST_EVALUATIONS = 100000


class Plan(NamedTuple):
    """global_batch: images per step; evaluations: steps before the end, ascending."""

    global_batch: int
    steps_per_epoch: int
    total: int
    save_every: int
    evaluations: List[int]
    evaluates: bool  # at the end, too: there is an evaluation split

    def epoch(self, step: int) -> float:
        return round(step / self.steps_per_epoch, 4)

    def next_stop(self, step: int) -> int:
        """Returns the next step at which training pauses for an evaluation, or the last step."""
        return next((stop for stop in self.evaluations if stop > step), self.total)

    def evaluation_due(self, step: int, evaluated: int) -> bool:
        """Returns whether an evaluation is due at `step`, given the last step that has one.

        A device that loops may stop a few steps late, so `step` need not be one of `evaluations`.
        """
        due = self.evaluations + ([self.total] if self.evaluates else [])
        return any(evaluated < planned <= step for planned in due)

    def intervals(self, log_interval: int, start: int) -> Dict[str, int]:
        """Returns {name: steps} that the steps per call of a device must divide."""
        stops = [stop for stop in self.evaluations + [self.total] if stop > start]
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
    evaluations: List[int] = []
    if evaluates and cfg.eval_interval:
        every = steps(cfg.eval_interval)
        if total // every > MOST_EVALUATIONS:
            raise UserError(
                'eval_interval: %g are %d evaluations, at most %d are legal; give a larger one'
                % (cfg.eval_interval, total // every, MOST_EVALUATIONS)
            )
        evaluations = list(range(every, total, every))
    save_every = cfg.save_checkpoints_steps or steps(cfg.save_interval)
    return Plan(global_batch, per_epoch, total, save_every, evaluations, evaluates)
