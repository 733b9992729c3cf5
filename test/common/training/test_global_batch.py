"""How a recipe's global batch is shared among ranks."""

import dataclasses

import pytest

from common.errors import UserError
from common.training.global_batch import divide


@dataclasses.dataclass(frozen=True)
class Settings:
    global_batch: int = 128
    batch_size: int = 128
    accumulate: int = 1
    learning_rate: float = 0.1
    allow_other_batch: bool = False
    scale_learning_rate: str = 'none'


@pytest.mark.parametrize(
    'ranks, changes, batch_size, accumulate',
    [
        (1, {}, 128, 1),
        (8, {}, 16, 1),
        (1, {'batch_size': 32}, 32, 4),
        (8, {'batch_size': 100}, 16, 1),
        (2, {'batch_size': 16}, 16, 4),
        (4, {'batch_size': 8, 'accumulate': 4}, 8, 4),  # as given: it multiplies out
        (128, {}, 1, 1),
    ],
)
def test_batch_and_accumulation_follow_from_the_devices(ranks, changes, batch_size, accumulate):
    cfg, warnings = divide(Settings(**changes), ranks)
    assert (cfg.batch_size, cfg.accumulate, warnings) == (batch_size, accumulate, [])
    assert (cfg.learning_rate, cfg.global_batch) == (0.1, 128)


def test_a_recipe_without_global_batch_is_left_as_it_is():
    cfg = Settings(global_batch=None, batch_size=10, accumulate=3)
    assert divide(cfg, 7) == (cfg, [])


@pytest.mark.parametrize(
    'ranks, changes, message',
    [
        (3, {}, 'cannot be shared by 3 devices; legal numbers of devices are 1, 2, 4, 8, 16,'),
        (
            1,
            {'batch_size': 48},
            'batch_size: 48 .* give a batch_size of 1, 2, 4, 8, 16, 32, 64, 128;',
        ),
        (8, {'accumulate': 2}, 'batch_size: 128 x --accumulate 2 x 8 devices are not'),
        (
            16,
            {'batch_size': 3},
            'give a batch_size of 1, 2, 4, 8; or give --allow_other_batch True',
        ),
    ],
)
def test_what_does_not_multiply_out_is_refused_with_the_legal_values(ranks, changes, message):
    with pytest.raises(UserError, match=message):
        divide(Settings(**changes), ranks)


def test_another_batch_has_to_be_allowed_and_is_told():
    cfg, warnings = divide(Settings(allow_other_batch=True), 8)
    assert (cfg.batch_size, cfg.accumulate, cfg.learning_rate) == (128, 1, 0.1)
    assert warnings == ["global batch 1024 instead of the recipe's 128; learning_rate stays 0.1"]


def test_linear_scaling_scales_the_rate_once():
    cfg, warnings = divide(Settings(scale_learning_rate='linear', batch_size=64), 8)
    assert cfg.learning_rate == pytest.approx(0.4) and cfg.batch_size == 64
    assert warnings == [
        "global batch 512 instead of the recipe's 128; learning_rate scaled from 0.1 to 0.4"
    ]
    assert divide(cfg, 8) == (cfg, [])  # a configuration that a run has saved
