"""Fields of a configuration: types, legal values in words, and what a field depends on."""

import dataclasses
import functools
import math
from typing import Any, Container, Dict, List, Optional, Sequence, Union, get_type_hints

import pydantic
from typing_extensions import Literal

from common.errors import warn


# The types of fields. Numbers of YAML 1.1 and of the command line may be texts, such as 1e-4.
class PositiveInt(pydantic.ConstrainedInt):
    strict, gt = True, 0


class NonNegativeInt(pydantic.ConstrainedInt):
    strict, ge = True, 0


class PositiveFloat(pydantic.ConstrainedFloat):
    gt = 0


class NonNegativeFloat(pydantic.ConstrainedFloat):
    ge = 0


Bool, Text = pydantic.StrictBool, pydantic.StrictStr
_TYPE_NAMES = {
    PositiveInt: 'a whole number above 0',
    NonNegativeInt: 'a whole number, 0 or more',
    PositiveFloat: 'a number above 0',
    NonNegativeFloat: 'a number, 0 or more',
    Bool: 'True or False',
    Text: 'a text',
    type(None): 'None',
    List[float]: 'a list such as [60, 120]',
    List[int]: 'a list such as [33, 65]',
    Dict[str, Dict[str, float]]: 'a mapping {source: {metric: number}}',
}


class _NotZero:
    """All values but 0, None, False and the empty list."""

    def __contains__(self, value: Any) -> bool:
        return bool(value)


NOT_ZERO = _NotZero()


def option(
    default: Any,
    help_text: str,
    group: str = '',
    least: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
    **needs: Container[Any],
):
    """Returns a dataclass field.

    group: heading in --help, for it and the fields that follow. least, most, below: legal numbers
    are those of [least, most], less than `below`. needs: {other field: its values with which this
    one has an effect}.
    """
    metadata = dict(help=help_text, group=group, needs=needs, least=least, most=most, below=below)
    if isinstance(default, (list, dict)):
        factory = functools.partial(type(default), default)
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def without_effect(cfg: Any, device: str) -> List[str]:
    """Returns sentences that name the fields which were set and have no effect in this
    configuration, or on 'cpu', 'gpu' or 'npu'.
    """
    defaults, notes = type(cfg)(), []
    for field in dataclasses.fields(cfg):
        if getattr(cfg, field.name) == getattr(defaults, field.name):
            continue
        for other, values in field.metadata['needs'].items():
            if getattr(cfg, other) not in values:
                value = getattr(cfg, other)
                notes.append('%s has no effect with %s %s' % (field.name, other, value))
    return notes + cfg.ignored_on(device)


def warn_without_effect(cfg: Any, device: str) -> None:
    """Prints these sentences as warnings, for a command without a log."""
    for note in without_effect(cfg, device):
        warn(note)


def types_of(config_class: type) -> Dict[str, Any]:
    """Returns {field: type}, with pydantic's strict types for text and bool."""
    strict = {str: Text, bool: Bool, Optional[str]: Optional[Text], Optional[bool]: Optional[Bool]}
    hints = get_type_hints(config_class)
    names = [field.name for field in dataclasses.fields(config_class)]
    return {name: strict.get(hints[name], hints[name]) for name in names}


@functools.lru_cache(maxsize=None)
def _model(hint: Any) -> Any:
    return pydantic.create_model('Field', value=(hint, ...))


def validated(hint: Any, value: Any) -> Any:
    """Returns the value converted to the type; ValueError if it is not of that type."""
    if value is None and type(None) not in _alternatives(hint):
        raise ValueError('None')
    if isinstance(value, bool) and Bool not in _alternatives(hint):
        raise ValueError('a truth value is not a number')
    if isinstance(value, str) and (not value.strip() or '\0' in value):
        raise ValueError('neither a word nor a path')
    if isinstance(value, str):
        value.encode()  # a ValueError for bytes that are not UTF-8, which TensorFlow does not take
    return _model(hint)(value=value).value


def _alternatives(hint: Any) -> Sequence[Any]:
    """Returns the types that a type unites."""
    return hint.__args__ if getattr(hint, '__origin__', None) is Union else (hint,)


def legal_values(hint: Any) -> List[str]:
    """Describes the legal values of a type in words; lists the choices of a Literal."""
    if len(_alternatives(hint)) > 1:
        return [text for part in _alternatives(hint) for text in legal_values(part)]
    if getattr(hint, '__origin__', None) is Literal:
        return [str(choice) for choice in hint.__args__]
    return [_TYPE_NAMES.get(hint, getattr(hint, '__name__', str(hint)))]
