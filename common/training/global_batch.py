"""Shares a recipe's global batch among the ranks of a run."""

import dataclasses
from typing import Any, List, Tuple

from common.errors import UserError

_OVERRIDES = 'or give --allow_other_batch True, or --scale_learning_rate linear'


def divide(cfg: Any, ranks: int) -> Tuple[Any, List[str]]:
    """Returns (configuration, warnings) such that batch_size x accumulate x ranks is global_batch;
    UserError with the legal numbers if they do not multiply out.

    cfg.batch_size is the most images that a device takes at once; accumulation makes up for what is
    missing. Without a global_batch nothing changes. Where another batch is allowed, a warning says
    what becomes of the learning rate.
    """
    recipe_batch, run_batch = cfg.global_batch, cfg.batch_size * cfg.accumulate * ranks
    if recipe_batch in (None, run_batch):
        return cfg, []
    if cfg.scale_learning_rate == 'linear':
        rate = cfg.learning_rate * run_batch / recipe_batch
        note = "global batch %d instead of the recipe's %d; learning_rate scaled from %g to %g"
        note %= (run_batch, recipe_batch, cfg.learning_rate, rate)
        return dataclasses.replace(cfg, learning_rate=rate, global_batch=run_batch), [note]
    if cfg.allow_other_batch:
        note = "global batch %d instead of the recipe's %d; learning_rate stays %g"
        return cfg, [note % (run_batch, recipe_batch, cfg.learning_rate)]
    images, remainder = divmod(recipe_batch, ranks)
    if remainder:
        raise UserError(
            "global_batch: the recipe's %d images cannot be shared by %d devices; legal numbers of"
            ' devices are %s; %s' % (recipe_batch, ranks, _divisors(recipe_batch), _OVERRIDES)
        )
    batch_size = min(cfg.batch_size, images)
    if cfg.accumulate > 1 or images % batch_size:
        raise UserError(
            "batch_size: %d x --accumulate %d x %d devices are not the recipe's global batch of %d;"
            ' leave --accumulate out and give a batch_size of %s; %s'
            % (cfg.batch_size, cfg.accumulate, ranks, recipe_batch, _divisors(images), _OVERRIDES)
        )
    accumulate = images // batch_size
    return dataclasses.replace(cfg, batch_size=batch_size, accumulate=accumulate), []


def _divisors(number: int) -> str:
    return ', '.join(str(n) for n in range(1, number + 1) if number % n == 0)
