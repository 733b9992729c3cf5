"""Typed, strict configuration: dataclass defaults < YAML recipe < command line.

A recipe is a flat YAML mapping of the fields below plus `model: NAME`. Each field is a flag of the
same name; unknown keys and flags, wrong types and illegal values are errors before any graph is
built, with the nearest legal name.
"""

import dataclasses
import pathlib
import re
import sys
from typing import Any, Dict, List, Optional, Sequence, Type, TypeVar, Union, get_type_hints

import jsonargparse
import yaml
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from typing_extensions import Literal

from common.errors import UserError, suggest
from common.files import atomic

ConfigType = TypeVar('ConfigType')


def option(default, help_text: str):
    """A dataclass field with its default and the text that --help shows."""
    if isinstance(default, (list, dict)):
        return dataclasses.field(
            default_factory=lambda: type(default)(default), metadata={'help': help_text}
        )
    return dataclasses.field(default=default, metadata={'help': help_text})


def _nearest(kind: str, name: str, fields: Sequence[str], where: str) -> UserError:
    return UserError(
        'unknown %s %s in %s%s'
        % (kind, name, where, suggest(name.lstrip('-'), fields) or '; --help lists all')
    )


def _parser(config_class: Type[ConfigType], aliases: Dict[str, str]) -> jsonargparse.ArgumentParser:
    parser = jsonargparse.ArgumentParser(
        exit_on_error=False,
        description=(
            'Fields of a recipe, each a flag of the same name. Classifiers also take --predict PATH'
            ' ...; see --predict --help.'
        ),
    )
    parser.add_argument('--config', default=None, help='recipe: a YAML file of the fields below')
    hints = get_type_hints(config_class)
    published = {field: flag for flag, field in aliases.items()}
    for field in sorted(
        dataclasses.fields(config_class), key=lambda f: f.metadata['help'].startswith('npu:')
    ):
        default = (
            field.default if field.default is not dataclasses.MISSING else field.default_factory()
        )
        flags = ['--' + field.name] + (
            ['--' + published[field.name]] if field.name in published else []
        )
        parser.add_argument(
            *flags, type=hints[field.name], default=default, help=field.metadata['help']
        )
    return parser


class _UniqueKeys(yaml.SafeLoader):
    """YAML takes the last of two equal keys in silence; here the second is an error."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError('key %r stands in it twice' % key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Union[str, pathlib.Path]) -> Dict[str, Any]:
    """Returns a YAML mapping; UserError if the file is missing, no YAML or no mapping."""
    path = pathlib.Path(path)
    try:
        content = yaml.load(path.read_text(), _UniqueKeys)
    except OSError as error:
        near = (
            suggest(path.name, (p.name for p in path.parent.glob('*.yaml')))
            if path.parent.is_dir()
            else ''
        )
        raise UserError('--config %s: %s%s' % (path, error.strerror, near))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError('--config %s is no YAML: %s' % (path, ' '.join(str(error).split())))
    if not isinstance(content, dict):
        raise UserError(
            '--config %s: expected "key: value" lines, found %s' % (path, type(content).__name__)
        )
    return content


def parse(
    config_class: Type[ConfigType],
    argv: Sequence[str],
    model: str,
    aliases: Optional[Dict[str, str]] = None,
    default_recipe: Optional[pathlib.Path] = None,
) -> ConfigType:
    """Builds the configuration of one run.

    argv: command-line words. `--config` may stand anywhere; it never overrides a flag.
    aliases: {published flag: field}; both spellings are legal.
    default_recipe: read if there is no --config. Raises UserError.
    """
    aliases = aliases or {}
    names = [field.name for field in dataclasses.fields(config_class)]
    parser = _parser(config_class, aliases)
    if '-h' in argv or '--help' in argv:
        parser.print_help()
        sys.exit(0)
    words: List[str] = []
    for word in argv:  # --flag=value and --flag value alike
        words += word.split('=', 1) if word.startswith('--') else [word]
    flags = ['--' + name for name in names + list(aliases) + ['config']]
    for flag in (word for word in words if word.startswith('-') and not _is_number(word)):
        if flag not in flags:
            raise _nearest('flag', flag, names + list(aliases) + ['config'], 'the command line')
    if '--config' in words[-1:]:
        raise UserError('--config needs a file')
    hints = get_type_hints(config_class)
    optional = [
        '--' + name
        for name in names + list(aliases)
        if type(None) in _parts(hints[aliases.get(name, name)])
    ]
    words = [
        'null' if word == 'None' and flag in optional else word
        for flag, word in zip([''] + words, words)
    ]  # as Python prints it
    given = [word for flag, word in zip(words, words[1:]) if flag == '--config']
    recipe = given[-1] if given else default_recipe
    values = read_yaml(recipe) if recipe else {}
    if values.pop('model', model) != model:
        raise UserError('--config %s is a recipe of another model, not of %s' % (recipe, model))
    for key in values:
        if key not in names:
            raise _nearest('key', repr(key), names, str(recipe))
        if values[key] is None and type(None) not in _parts(
            hints[key]
        ):  # which the parser lets pass
            raise _illegal(key, None, hints[key])
    try:
        base = parser.parse_object(values) if values else parser.get_defaults()
        namespace = parser.parse_args(words, namespace=base)
    except (jsonargparse.ArgumentError, ValueError) as error:
        raise _explain(error, config_class, values, words, aliases)
    result = config_class(**{name: _plain(getattr(namespace, name)) for name in names}).resolve()
    result.check()
    return result


def _parts(hint: Any) -> Sequence[Any]:
    """The types that a field's type unites."""
    return hint.__args__ if getattr(hint, '__origin__', None) is Union else (hint,)


def _plain(value: Any) -> Any:
    """The parser's restricted numbers as plain int and float, which YAML and JSON can write."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return value


_LEGAL = {
    PositiveInt: 'a whole number above 0',
    NonNegativeInt: 'a whole number, 0 or more',
    PositiveFloat: 'a number above 0',
    NonNegativeFloat: 'a number, 0 or more',
    bool: 'True or False',
    str: 'a text',
    int: 'a whole number',
    float: 'a number',
    type(None): 'None',
    List[float]: 'a list such as [60, 120]',
    Dict[str, Dict[str, float]]: 'a mapping {source: {metric: number}}',
}


def _legal(hint: Any) -> List[str]:
    """Says in words what a field's type admits; a Literal gives its choices."""
    if len(_parts(hint)) > 1:
        return [text for part in _parts(hint) for text in _legal(part)]
    if getattr(hint, '__values__', None) or getattr(hint, '__origin__', None) is Literal:
        return [str(choice) for choice in getattr(hint, '__values__', None) or hint.__args__]
    return [_LEGAL.get(hint, getattr(hint, '__name__', str(hint)))]


def _illegal(key: str, found: Any, hint: Any) -> UserError:
    legal = _legal(hint)
    return UserError(
        '%s: %r is not legal; give %s%s' % (key, found, ' or '.join(legal), suggest(found, legal))
    )


def _explain(
    error: Exception,
    config_class: type,
    values: Dict[str, Any],
    words: List[str],
    aliases: Dict[str, str],
) -> UserError:
    """Turns the parser's message into: key, what was found, what is legal."""
    text = ' '.join(str(error).split())
    key = re.search(r'key "([^"]+)"|argument --(\w+)', text)
    key = key and aliases.get(key.group(1) or key.group(2), key.group(1) or key.group(2))
    hints = get_type_hints(config_class)
    if key not in hints:
        return UserError(text)
    flags = [
        '--' + flag for flag in [key] + [alias for alias, field in aliases.items() if field == key]
    ]
    given = [word for flag, word in zip(words, words[1:] + [None]) if flag in flags]
    if given and given[-1] is None:
        return UserError('%s needs a value; give %s' % (key, ' or '.join(_legal(hints[key]))))
    return _illegal(key, given[-1] if given else values.get(key), hints[key])


def _is_number(word: str) -> bool:
    try:
        float(word)
        return True
    except ValueError:
        return False


def save(cfg, path: pathlib.Path, model: str) -> None:
    """Writes the resolved configuration, a recipe that gives the same run."""
    with atomic(path) as temporary:
        temporary.write_text(
            yaml.safe_dump(dict(model=model, **dataclasses.asdict(cfg)), sort_keys=False)
        )


def changes(cfg, base: Dict[str, Any]) -> Dict[str, Any]:
    """Returns {field: (old, new)} for the fields in which `cfg` differs from the mapping `base`."""
    return {
        key: (base[key], value)
        for key, value in dataclasses.asdict(cfg).items()
        if key in base and base[key] != value
    }


def summary(cfg) -> str:
    """The fields that differ from the class's defaults, on one line."""
    defaults = dataclasses.asdict(type(cfg)())
    return '  '.join(
        '%s=%s' % (key, new)
        for key, (_, new) in changes(cfg, defaults).items()
        if key != 'published'
    )
