"""Typed, strict configuration: dataclass defaults < YAML recipe < command line.

A recipe is a flat YAML mapping of the fields plus `model: NAME`. Each field is a flag of the same
name. Unknown keys and flags, wrong types and illegal values are errors before TensorFlow is
imported, with the nearest legal name.
"""

import contextlib
import dataclasses
import pathlib
import sys
import textwrap
from typing import Any, Dict, List, Mapping, Optional, Sequence, Type, Union

import yaml

from common.configuration.fields import Text, legal_values, types_of, validated
from common.configuration.settings import ConfigType
from common.errors import UserError, suggest
from common.files import write_text

# Fields that may differ between the ranks and the sessions of a run: paths, and what to do.
LOCAL = 'do_train restart published model_path data_path output_path data_url train_url'.split()


def parse(
    config_class: Type[ConfigType], argv: Sequence[str], other_flags: Sequence[str] = ()
) -> ConfigType:
    """Builds the configuration of one run; UserError for a mistake.

    argv: command-line words. `--config` may stand anywhere; it never overrides a flag.
    other_flags: those that the command takes beside these, such as '--output', to suggest.
    """
    if '-h' in argv or '--help' in argv:
        print_help(config_class, argv[-1].lower())
        sys.exit(0)
    hints = types_of(config_class)
    command_line = _read_flags(argv, hints, config_class.aliases, other_flags)
    recipe = command_line.pop('config', config_class.default_recipe)
    values = _read_recipe(recipe, hints, config_class.model) if recipe else {}
    result = config_class(**dict(values, **command_line)).resolve()
    result.check()
    if result.device != 'auto':
        result.check_device(result.device)
    return result


def _read_flags(
    argv: Sequence[str],
    hints: Dict[str, Any],
    aliases: Mapping[str, str],
    other_flags: Sequence[str],
) -> Dict[str, Any]:
    """Returns {field: value} of the command line; of a repeated flag the last counts."""
    legal = [*hints, *aliases, 'config']
    rest: List[str] = []
    for word in argv:  # --flag=value and --flag value alike
        rest += word.split('=', 1) if word.startswith('--') else [word]
    values: Dict[str, Any] = {}
    while rest:
        flag = rest.pop(0)
        if not _is_flag(flag):
            raise UserError('unexpected on the command line: %s' % ' '.join([flag, *rest]))
        if not flag.startswith('--') or flag[2:] not in legal:
            all_flags = legal + [name.lstrip('-') for name in other_flags]
            raise _unknown('flag', flag, all_flags, 'the command line')
        name = aliases.get(flag[2:], flag[2:])
        values[name] = _read_word(name, hints.get(name, Text), rest.pop(0) if rest else None)
    return values


def _read_word(name: str, hint: Any, word: Optional[str]) -> Any:
    """Returns the value of one flag: its word as it is, or else parsed as YAML."""
    flag, needed = name, ' or '.join(legal_values(hint))
    if name == 'config':
        flag, needed = '--config', 'a file'
    if word is None or _is_flag(word):
        raise UserError('%s needs a value; give %s' % (flag, needed))
    if not word.strip():
        raise UserError("%s: '' is not legal (an unset shell variable?); give %s" % (flag, needed))
    if name == 'config':
        return word
    candidates = [None, word] if word == 'None' else [word]
    with contextlib.suppress(Exception):  # PyYAML raises anything for a word such as 2020-02-30
        candidates.append(yaml.safe_load(word))
    for candidate in candidates:
        try:
            return validated(hint, candidate)
        except ValueError:
            continue
    raise _illegal(name, word, hint)


def _read_recipe(
    path: Union[str, pathlib.Path], hints: Dict[str, Any], model: str
) -> Dict[str, Any]:
    """Returns {field: value} of a recipe."""
    values = read_yaml(path)
    if values.pop('model', model) != model:
        raise UserError('--config %s is a recipe of another model, not of %s' % (path, model))
    checked = {}
    for key, value in values.items():
        if key not in hints:
            raise _unknown('key', repr(key), list(hints), str(path))
        try:
            checked[key] = validated(hints[key], value)
        except ValueError:
            raise _illegal(key, value, hints[key])
    return checked


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a repeated key, of which PyYAML silently takes the last."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError('key %r occurs twice' % key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Union[str, pathlib.Path]) -> Dict[str, Any]:
    """Returns a YAML mapping; UserError if the file is missing or holds something else."""
    path = pathlib.Path(path)
    try:
        content = yaml.load(path.read_text(), _UniqueKeys)
    except OSError as error:
        recipes = path.parent.glob('*.yaml') if path.parent.is_dir() else ()
        suggestion = suggest(
            path.name, [recipe.name for recipe in recipes if recipe.name != path.name]
        )
        raise UserError('--config %s: %s%s' % (path, error.strerror, suggestion))
    except Exception as error:  # yaml.YAMLError, but PyYAML raises others as well
        raise UserError('--config %s is not valid YAML: %s' % (path, ' '.join(str(error).split())))
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise UserError('--config %s: expected "key: value" lines, found %s' % (path, kind))
    return content


def _illegal(key: str, value: Any, hint: Any) -> UserError:
    legal = legal_values(hint)
    return UserError(
        '%s: %r is not legal; give %s%s' % (key, value, ' or '.join(legal), suggest(value, legal))
    )


def _unknown(kind: str, name: str, legal: Sequence[str], where: str) -> UserError:
    suggestion = suggest(name.strip("-'"), legal) or '; --help all lists them'
    return UserError('unknown %s %s in %s%s' % (kind, name, where, suggestion))


def _is_flag(word: str) -> bool:
    try:
        float(word)
        return False
    except ValueError:
        return word.startswith('-') and len(word) > 1


def print_help(config_class: Type[ConfigType], topic: str) -> None:
    """Prints the flags of the groups whose heading begins with `topic` ('all': of every group,
    'npu': of Ascend's); without one how to start the command, its main flags and the groups.
    """
    groups: Dict[str, List[dataclasses.Field]] = {}
    heading = ''
    for field in dataclasses.fields(config_class):
        heading = field.metadata['group'] or heading
        groups.setdefault(heading, []).append(field)
    topic = {'npu': 'ascend', 'all': ''}.get(topic, topic)
    headings = [heading for heading in groups if heading.lower().startswith(topic)]
    if not headings:
        print(_USAGE.format('python {0}_tf/run_{0}.py'.format(config_class.model)))
    for heading in headings or ['What to do']:
        print('\n' + heading)
        for field in groups[heading]:
            _print_flag(config_class, field)
    if not headings:
        groups.pop('What to do')
        print('\nOther flags by group; --help WORD describes a group, --help all everything')
        for heading in groups:
            word = 'npu' if heading.startswith('Ascend') else heading.split()[0].lower()
            names = '%-11s%s' % (word, ', '.join(field.name for field in groups[heading]))
            print(textwrap.indent(textwrap.fill(names, 94, subsequent_indent=' ' * 11), '  '))


_USAGE = """\
Train:     {0} --config RECIPE --data_path DATA --output_path RUN --do_train True
Evaluate:  {0} --config RECIPE --data_path DATA --model_path CKPT
Predict:   {0} --config RECIPE --model_path CKPT --predict IMAGE FOLDER/
Look:      {0} --config RECIPE --data_path DATA --show_batch 16

--config FILE is a recipe: a YAML file whose keys are the flags below. The command line wins over
the recipe. --predict --help and --show_batch --help describe these two."""


def _print_flag(config_class: Type[ConfigType], field: dataclasses.Field) -> None:
    published = [flag for flag, name in config_class.aliases.items() if name == field.name]
    default = getattr(config_class(), field.name)
    values = ' | '.join(legal_values(types_of(config_class)[field.name]))
    flags = ', '.join('--' + name for name in [field.name, *published])
    print('  %s  %s; default: %s' % (flags, values, default))
    print(textwrap.indent(textwrap.fill(field.metadata['help'], 90), ' ' * 6))


def save(cfg: Any, path: pathlib.Path, model: str) -> None:
    """Writes the resolved configuration, a recipe that gives the same run."""
    content = dict(model=model, **dataclasses.asdict(cfg))
    write_text(path, yaml.safe_dump(content, sort_keys=False))


def changes(cfg: Any, base: Mapping[str, Any]) -> Dict[str, Any]:
    """Returns {field: (old, new)} for the fields in which `cfg` differs from the mapping `base`."""
    return {
        key: (base[key], value)
        for key, value in dataclasses.asdict(cfg).items()
        if key in base and base[key] != value
    }


def summary(cfg: Any) -> str:
    """Returns the fields that differ from the class's defaults, on one line."""
    differing = changes(cfg, dataclasses.asdict(type(cfg)()))
    return '  '.join(
        '%s=%s' % (key, new) for key, (_, new) in differing.items() if key != 'published'
    )
