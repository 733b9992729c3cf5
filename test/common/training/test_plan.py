"""What is due at which step: plain arithmetic."""

import types

import pytest

from common.errors import UserError
from common.training import plan


def cfg(**changes):
    fields = dict(
        batch_size=4,
        accumulate=2,
        epochs=3.0,
        steps=None,
        warmup_epochs=0.0,
        eval_interval=1.0,
        save_interval=1.0,
        save_checkpoints_steps=None,
        log_interval=10,
    )
    return types.SimpleNamespace(**dict(fields, **changes))


def test_batch_epoch_and_total_follow_from_records_and_ranks():
    made = plan.make(cfg(), 100, 3, True)
    assert made.global_batch == 4 * 2 * 3 and made.steps_per_epoch == 100 // 24
    assert made.total == 3 * 4 and made.save_every == 4
    assert made.epoch(6) == 1.5


def test_fractions_of_an_epoch_round_to_whole_steps_and_are_at_least_one():
    made = plan.make(cfg(epochs=1.3, save_interval=0.01, eval_interval=0.4), 80, 1, True)
    assert made.total == 13 and made.save_every == 1 and made.evaluate_every == 4


def test_steps_replace_epochs():
    assert plan.make(cfg(steps=7), 80, 1, False).total == 7
    assert plan.make(cfg(save_checkpoints_steps=3), 80, 1, False).save_every == 3


@pytest.mark.parametrize(
    'changes, expected',
    [(dict(), [10, 20]), (dict(eval_interval=0.0), []), (dict(eval_interval=2.0), [20])],
)
def test_evaluations_before_the_end(changes, expected):
    for evaluates in (True, False):
        made, stops = plan.make(cfg(**changes), 80, 1, evaluates), [0]
        while stops[-1] < 30:
            stops.append(made.next_stop(stops[-1]))
        assert stops == [0, *(expected if evaluates else []), 30]
        due = [step for step in range(1, 31) if made.evaluation_due(step, step - 1)]
        assert due == ([*expected, 30] if evaluates else [])


def test_training_pauses_at_evaluations_and_ends_at_the_last_step():
    made = plan.make(cfg(), 80, 1, True)
    assert [made.next_stop(step) for step in (0, 9, 10, 19, 20, 29)] == [10, 10, 20, 20, 30, 30]


def test_an_evaluation_that_was_missed_is_due_whatever_the_step_is():
    made = plan.make(cfg(), 80, 1, True)
    assert not made.evaluation_due(9, 0) and made.evaluation_due(10, 0)
    assert not made.evaluation_due(10, 10)
    assert made.evaluation_due(12, 0)  # a device that loops stopped two steps late
    assert not made.evaluation_due(12, 12) and not made.evaluation_due(19, 12)
    assert made.evaluation_due(30, 20) and not made.evaluation_due(30, 30)
    assert not plan.make(cfg(), 80, 1, False).evaluation_due(30, 0)


def test_intervals_that_a_loop_of_the_device_must_divide():
    made = plan.make(cfg(), 80, 1, True)
    assert made.intervals(5, 15) == {
        'log_interval': 5,
        'checkpoints': 10,
        'evaluation or end at step 20': 5,
        'evaluation or end at step 30': 15,
    }
    often = plan.make(cfg(epochs=1000.0), 80, 1, True).intervals(10, 7)
    assert list(often.values()) == [10, 10, 3, 13, 9993]  # stops at 10, 20, 10 000


def test_a_batch_that_the_records_do_not_fill_and_a_warm_up_without_end_are_refused():
    with pytest.raises(UserError, match='found 7 training records.*global batch of 8'):
        plan.make(cfg(), 7, 1, True)
    with pytest.raises(UserError, match='warmup_epochs: 3 are 30 steps, and the run has 30'):
        plan.make(cfg(warmup_epochs=3.0), 80, 1, True)
