"""Shares a recipe's global batch among the ranks of a run."""

import dataclasses
from typing import Any, List, Tuple

from common.errors import UserError

_OVERRIDES = 'or give --allow_other_batch True, or --scale_learning_rate linear'


def share(cfg: Any, ranks: int) -> Tuple[Any, List[str]]:
    """Returns (configuration, warnings) such that batch_size x accumulate x ranks is global_batch;
    UserError with the legal numbers if they do not multiply out.

    cfg.batch_size is the most images that a device takes at once; accumulation makes up for what is
    missing. Without a global_batch nothing changes. Where another batch is allowed, a warning says
    what becomes of the learning rate.
    """
    wanted, given = cfg.global_batch, cfg.batch_size * cfg.accumulate * ranks
    if wanted in (None, given):
        return cfg, []
    if cfg.scale_learning_rate == 'linear':
        rate = cfg.learning_rate * given / wanted
        note = "global batch %d instead of the recipe's %d; learning_rate scaled from %g to %g"
        note %= (given, wanted, cfg.learning_rate, rate)
        return dataclasses.replace(cfg, learning_rate=rate, global_batch=given), [note]
    if cfg.allow_other_batch:
        note = "global batch %d instead of the recipe's %d; learning_rate stays %g"
        return cfg, [note % (given, wanted, cfg.learning_rate)]
    images, rest = divmod(wanted, ranks)
    if rest:
        raise UserError(
            "global_batch: the recipe's %d images cannot be shared by %d devices; legal numbers of"
            ' devices are %s; %s' % (wanted, ranks, _divisors(wanted), _OVERRIDES)
        )
    batch_size = min(cfg.batch_size, images)
    if cfg.accumulate > 1 or images % batch_size:
        raise UserError(
            "batch_size: %d x --accumulate %d x %d devices are not the recipe's global batch of %d;"
            ' leave --accumulate out and give a batch_size of %s; %s'
            % (cfg.batch_size, cfg.accumulate, ranks, wanted, _divisors(images), _OVERRIDES)
        )
    accumulate = images // batch_size
    return dataclasses.replace(cfg, batch_size=batch_size, accumulate=accumulate), []


def _divisors(number: int) -> str:
    return ', '.join(str(n) for n in range(1, number + 1) if number % n == 0)
