"""CANN on this machine: its folders, the scripts to source, the release of its TF adapter."""

import importlib.util
import inspect
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Callable, List, NamedTuple, Optional

ROOT = '/usr/local/Ascend'
# What CANN's operator compiler imports into the training process.
COMPILER_IMPORTS = (
    'attr',
    'cffi',
    'decorator',
    'google.protobuf',
    'numpy',
    'pathlib2',
    'psutil',
    'scipy',
    'sympy',
    'yaml',
)

# A parameter of NPURunConfig that came with each release; the newest that is there tells the
# release.
_RELEASES = (
    ('ac_parallel_enable', 'r1.15.0 or master'),
    ('precision_mode_v2', 'r1.13.0'),
    ('deterministic', 'r1.12.0'),
    ('aoe_config_file', 'r1.11.0'),
    ('topo_sorting_mode', 'r1.10.0'),
    ('customize_dtypes', 'r1.9.0'),
    ('soc_config', 'r1.8.0'),
    ('device_type', 'r1.7.0'),
    ('modify_mixlist', 'r1.5.0 or r1.6.0'),
)


class Installation(NamedTuple):
    """One CANN on disk. scripts: to source in this order; none before CANN 5, where PATH,
    LD_LIBRARY_PATH and PYTHONPATH are exported by hand.
    """

    generation: str
    folder: str
    scripts: List[str]


def installations(root: str = ROOT, home: Optional[str] = None) -> List[Installation]:
    """CANN below `root` and below Ascend in the home folder, newest generation first."""
    result = []
    for base in (root, os.path.join(home or os.path.expanduser('~'), 'Ascend')):
        for kit in ('ascend-toolkit', 'nnae'):
            scripts = ['%s/%s/set_env.sh' % (base, part) for part in (kit, 'tfplugin')]
            if os.path.isfile(scripts[0]):
                is_newer = base == root and kit == 'ascend-toolkit'
                generation = 'CANN 6 and newer' if is_newer else 'CANN 5'
                result.append(Installation(generation, base, list(filter(os.path.isfile, scripts))))
        if os.path.isdir(base + '/fwkacllib') or os.path.isdir(base + '/nnae/latest/fwkacllib'):
            result.append(Installation('CANN 20.x and older', base, []))
    return result


def is_sourced() -> bool:
    """Whether this shell has sourced CANN's set_env.sh."""
    return bool(os.environ.get('ASCEND_OPP_PATH'))


def is_installed() -> bool:
    """True if CANN is in a usual place, or this shell has sourced it from another."""
    return is_sourced() or bool(installations())


def driver_version(root: str = ROOT) -> str:
    """The version in the driver's version.info, '' without one."""
    try:
        text = pathlib.Path(root, 'driver', 'version.info').read_text(errors='replace')
    except OSError:
        return ''
    return ''.join(re.findall(r'(?mi)^version\s*=\s*(\S+)', text)[:1])


def has_adapter() -> bool:
    """True if the TF adapter (npu_bridge) can be found."""
    return importlib.util.find_spec('npu_bridge') is not None


def adapter_release(run_config: Callable) -> str:
    """The TF adapter's release, by the parameters of its NPURunConfig.__init__."""
    parameters = inspect.signature(run_config).parameters
    releases = (release for name, release in _RELEASES if name in parameters)
    return next(releases, 'older than r1.5.0: not supported')


def python_with_ais_bench() -> str:
    """Returns a Python that has the module ais_bench, this one or PATH's python3; '' without."""
    probe = 'import importlib.util, sys; sys.exit(importlib.util.find_spec("ais_bench") is None)'
    for python in (sys.executable, 'python3'):
        command = [python, '-c', probe]
        if shutil.which(python) and not subprocess.call(command, stderr=subprocess.DEVNULL):
            return python
    return ''
