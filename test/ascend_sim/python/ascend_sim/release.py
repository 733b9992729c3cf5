"""Which release of the TF adapter is imitated (ASCEND_SIM_RELEASE, default master), and its exact
signatures.

The signatures are data, api.json; a name that the release lacks is removed from its module, and a
name that the release has but the stand-in does not model raises NotImplementedError when it is
called.
"""

import enum
import functools
import inspect
import json
import os
from typing import Any, Dict, List

_API = json.load(
    open(os.path.join(os.path.dirname(__file__), '..', '..', 'api.json'), encoding='utf-8')
)
# Adapter releases between those of the file that changed no signature.
_SAME = {'r1.5.1': 'r1.5.0', 'r1.14.0': 'r1.13.0', 'r1.14.1': 'r1.13.0'}
RELEASES = sorted(
    [name for name in _API if name.startswith('r')] + list(_SAME),
    key=lambda name: [int(part) for part in name[1:].split('.')],
) + ['master']
RELEASE = os.environ.get('ASCEND_SIM_RELEASE', 'master')
if RELEASE not in RELEASES:
    raise ValueError('ASCEND_SIM_RELEASE=%s: known are %s' % (RELEASE, ', '.join(RELEASES)))


def at_least(name: str) -> bool:
    """True if the imitated release is `name` or a later one."""
    return RELEASES.index(RELEASE) >= RELEASES.index(name)


def api(module: str) -> Dict[str, Any]:
    """Names of a module -> signature (list) or class (dict) in this release; None for a name that
    only others have.
    """
    names = dict(_API['master'].get(module, {}))
    names.update(_API[_SAME.get(RELEASE, RELEASE)].get(module, {}))
    return names


def signature_of(parameters: List[List[Any]], first: List[str] = ()) -> inspect.Signature:
    """inspect.Signature of [[name], [name, default], ...], after the names of `first` (such as
    self).
    """

    def default(item):
        if len(item) == 1:
            return inspect.Parameter.empty
        return tuple(item[1]) if isinstance(item[1], list) else item[1]

    return inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in first]
        + [
            inspect.Parameter(
                item[0], inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default(item)
            )
            for item in parameters
        ]
    )


def signed(function, signature: inspect.Signature):
    """`function` behind the signature: it gets every argument by name, and what the signature lacks
    is a TypeError.
    """

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError('%s() %s' % (function.__name__, error)) from None
        bound.apply_defaults()
        return function(**bound.arguments)

    call.__signature__ = signature
    return call


def _missing(module: str, name: str):
    def call(**_):
        raise NotImplementedError(
            '%s.%s is not modelled by the stand-in (test/ascend_sim)' % (module, name)
        )

    call.__name__ = name
    return call


def _not_modelled_class(module: str, name: str):
    return type(name, (), {'__init__': lambda self, **_: _missing(module, name)()})


def publish(namespace: Dict[str, Any], module: str) -> None:
    """Gives a module's public names this release's signatures; to be called at the module's end
    with globals().
    """
    for name, spec in api(module).items():
        if spec is None:
            namespace.pop(name, None)
        elif isinstance(spec, list):
            function = namespace.get(name) or _missing(module, name)
            parameters = [
                [item[0], _literal(item[1], namespace)] if len(item) > 1 else item for item in spec
            ]
            namespace[name] = signed(function, signature_of(parameters))
        else:
            cls = namespace.setdefault(name, _not_modelled_class(module, name))
            if spec['__init__'] and not issubclass(cls, enum.Enum):
                cls.__init__ = signed(cls.__init__, signature_of(spec['__init__'], first=['self']))


def _literal(default, namespace):
    """A default that the file gives as source text, 'NpuExecutePlacement.ALL', as its value."""
    if isinstance(default, str) and default.startswith('NpuExecutePlacement.'):
        return namespace['NpuExecutePlacement'][default.split('.')[1]]
    return default
