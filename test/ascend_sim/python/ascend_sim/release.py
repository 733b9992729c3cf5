"""The release of the TF adapter that is imitated (ASCEND_SIM_RELEASE, default master), and its
signatures, which are data (api.json).
"""

import functools
import inspect
import json
import os
import pathlib

_API = json.loads((pathlib.Path(__file__).resolve().parents[2] / 'api.json').read_text())
# Releases that changed no signature -> the one that they repeat.
_SAME = {'r1.5.1': 'r1.5.0', 'r1.14.1': 'r1.14.0'}
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


def defaults(name: str):
    """{parameter: default, or inspect's `empty`} of a function or constructor in this release.

    name: with its module, such as 'npu_bridge.hccl.hccl_ops.allreduce'.
    """
    own = _API[_SAME.get(RELEASE, RELEASE)]
    return {
        item[0]: item[1] if len(item) > 1 else inspect.Parameter.empty
        for item in own.get(name, _API['master'][name])
    }


def signed(function):
    """Gives a function or a method __init__ this release's signature: it receives every argument by
    name, and an argument that the release lacks is a TypeError.
    """
    qualified, method = function.__qualname__, function.__qualname__.endswith('.__init__')
    name = '%s.%s' % (function.__module__, qualified[: -len('.__init__')] if method else qualified)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        ([inspect.Parameter('self', kind)] if method else [])
        + [inspect.Parameter(key, kind, default=value) for key, value in defaults(name).items()]
    )

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
