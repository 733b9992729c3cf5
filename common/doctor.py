"""Looks at this machine and says what a run here can count on: `python -m common.doctor`. Exit
status 1 if something is broken.
"""

import glob
import importlib.util
import inspect
import os
import platform
import shutil
import subprocess
import sys
from typing import Callable, List, NamedTuple, Optional, Tuple

from common.errors import UserError, entry_point

OK, MISSING, BROKEN = 'ok', '-', 'BROKEN'


class Finding(NamedTuple):
    """One line of the report. state: 'ok', '-' (not there, needed only for some uses) or 'BROKEN'."""

    state: str
    what: str
    found: str
    cure: str = ''


def _ask(code: str) -> Tuple[bool, str]:
    """Runs code in a Python of its own, because a broken package may take the process with it.
    Returns (it worked, its last line).
    """
    answer = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL='3'),
    )
    lines = [line for line in answer.stdout.decode(errors='replace').splitlines() if line.strip()]
    return answer.returncode == 0, (
        lines[-1][:110] if lines else 'ended with status %d' % answer.returncode
    )


def _package(name: str, wanted: str, cure: str) -> Finding:
    works, found = _ask('import %s as package; print(package.__version__)' % name)
    right = works and found.startswith(wanted)
    return Finding(
        OK if right else BROKEN,
        name,
        found if works else 'does not import: ' + found,
        '' if right else 'want %s: %s' % (wanted, cure),
    )


def _python() -> Finding:
    right = sys.version_info[:2] == (3, 7)
    return Finding(
        OK if right else BROKEN,
        'python',
        '%s on %s, %d cores' % (platform.python_version(), platform.machine(), os.cpu_count()),
        '' if right else 'TensorFlow 1.15 needs Python 3.7: ./setup.sh, then .venv/bin/python',
    )


def _horovod() -> Finding:
    works, found = _ask(
        'import horovod.tensorflow as h; print("gloo=%s nccl=%s" % (bool(h.gloo_built()),'
        ' bool(h.nccl_built())))'
    )
    return Finding(
        OK if works else MISSING,
        'horovod',
        found,
        '' if works else 'several processes on CPU or GPU: ./setup.sh --horovod',
    )


def _gpu() -> Finding:
    from common.devices import gpu

    return (
        Finding(OK, 'gpu', 'seen by TensorFlow')
        if gpu.available()
        else Finding(MISSING, 'gpu', 'none', 'tensorflow-gpu==1.15.0 with CUDA 10.0 and cuDNN 7.6')
    )


def _driver(root: str = '/usr/local/Ascend') -> Finding:
    try:
        answer = subprocess.run(
            ['npu-smi', 'info'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20
        )
    except OSError:
        return Finding(
            MISSING, 'Ascend driver', 'npu-smi is not on PATH', '. %s/driver/bin/setenv.bash' % root
        )
    except subprocess.TimeoutExpired:
        return Finding(
            BROKEN,
            'Ascend driver',
            'npu-smi does not answer',
            'look at `dmesg`; install driver and firmware anew',
        )
    table = answer.stdout.decode(errors='replace')
    if answer.returncode:
        return Finding(
            BROKEN,
            'Ascend driver',
            'npu-smi: ' + ' '.join(table.split())[-110:],
            'install driver and firmware anew; in a container, pass /dev/davinci* and the'
            ' driver in',
        )
    chips = sorted(
        {
            word
            for line in table.splitlines()
            for word in line.split()
            if word[:1].isdigit() and word[-1:] in 'AB' and len(word) >= 4
        }
    )
    version = next(
        (
            line.strip()
            for path in glob.glob(root + '/driver/version.info')
            for line in open(path)
            if 'ersion' in line
        ),
        '',
    )
    return Finding(OK, 'Ascend driver', ' '.join(['npu-smi answers', version] + chips).strip())


def set_env_scripts(
    root: str = '/usr/local/Ascend', home: Optional[str] = None
) -> List[Tuple[str, List[str]]]:
    """CANN generations found on disk, newest first: (name, scripts to source in this order)."""
    found = []
    for base in (root, os.path.join(home or os.path.expanduser('~'), 'Ascend')):
        for kit in ('ascend-toolkit', 'nnae'):
            script = '%s/%s/set_env.sh' % (base, kit)
            if os.path.isfile(script):
                plugin = '%s/tfplugin/set_env.sh' % base
                generation = (
                    'CANN 6 and newer' if base == root and kit == 'ascend-toolkit' else 'CANN 5'
                )
                found.append((generation, [script] + ([plugin] if os.path.isfile(plugin) else [])))
        if os.path.isdir(base + '/fwkacllib') or os.path.isdir(base + '/nnae/latest/fwkacllib'):
            found.append(
                (
                    (
                        'CANN 20.x and older: no set_env.sh; PATH, LD_LIBRARY_PATH and PYTHONPATH are'
                        ' exported by hand from'
                    ),
                    [base],
                )
            )
    return found


def _cann() -> Finding:
    scripts = set_env_scripts()
    if not scripts:
        return Finding(
            MISSING,
            'CANN',
            'no set_env.sh below /usr/local/Ascend or ~/Ascend',
            'install ascend-toolkit and tfplugin',
        )
    name, files = scripts[0]
    sourced = bool(os.environ.get('ASCEND_OPP_PATH'))
    return Finding(
        OK if sourced else MISSING,
        'CANN',
        '%s: %s' % (name, ' '.join(files)),
        (
            ''
            if sourced
            else ' && '.join('. ' + file for file in files) + '   (not in a shell with set -u)'
        ),
    )


# A parameter of NPURunConfig that came with each release; the newest that is there tells the
# release.
_RELEASES = [
    ('ac_parallel_enable', 'r1.15.0 or master'),
    ('precision_mode_v2', 'r1.13.0'),
    ('deterministic', 'r1.12.0'),
    ('aoe_config_file', 'r1.11.0'),
    ('topo_sorting_mode', 'r1.10.0'),
    ('customize_dtypes', 'r1.9.0'),
    ('soc_config', 'r1.8.0'),
    ('device_type', 'r1.7.0'),
    ('modify_mixlist', 'r1.5.0 or r1.6.0'),
]


def adapter_release(run_config: Callable) -> str:
    """The TF adapter's release, by the parameters of its NPURunConfig."""
    parameters = inspect.signature(run_config).parameters
    return next(
        (release for name, release in _RELEASES if name in parameters),
        'older than r1.5.0: not supported',
    )


def _adapter() -> Finding:
    if importlib.util.find_spec('npu_bridge') is None:
        return Finding(
            MISSING,
            'npu_bridge',
            'not found',
            "training on Ascend: source CANN's tfplugin/set_env.sh",
        )
    works, found = _ask(
        'from common import doctor; from npu_bridge.estimator.npu.npu_config import NPURunConfig; '
        'print(doctor.adapter_release(NPURunConfig.__init__))'
    )
    return Finding(
        OK if works else BROKEN,
        'npu_bridge',
        'adapter ' + found if works else found,
        '' if works else "source CANN's set_env.sh; TensorFlow must be 1.15.0",
    )


def _job() -> Finding:
    from common.devices import npu

    try:
        place = npu.environment()
    except UserError as error:
        return Finding(BROKEN, 'rank settings', str(error))
    return Finding(
        OK,
        'rank settings',
        'rank %s of %d' % (place.rank if place.rank >= 0 else 'from HCCL', place.size),
    )


def _tools() -> List[Finding]:
    return [
        (
            Finding(OK, name, shutil.which(name))
            if shutil.which(name)
            else Finding(MISSING, name, 'not on PATH', use)
        )
        for name, use in (
            ('atc', 'conversion to .om'),
            ('msame', 'offline inference on Ascend'),
            ('hccn_tool', 'addresses for the rank table'),
        )
    ]


def examine() -> List[Finding]:
    """All findings, in the order of the report."""
    pins = './setup.sh installs the pinned versions'
    packages = [
        _package(*row, pins)
        for row in (
            ('tensorflow', '1.15'),
            ('numpy', '1.'),
            ('google.protobuf', '3.'),
            ('cv2', '4.'),
            ('onnxruntime', '1.'),
        )
    ]
    return (
        [_python()]
        + packages
        + [_horovod(), _gpu(), _driver(), _cann(), _adapter(), _job()]
        + _tools()
    )


@entry_point
def main() -> None:
    findings = examine()
    for finding in findings:
        print(
            '%-7s %-16s %s%s'
            % (
                finding.state,
                finding.what,
                finding.found,
                '  ->  ' + finding.cure if finding.cure else '',
            )
        )
    usable = [
        name
        for name, there in (
            ('cpu', True),
            ('gpu', any(f.what == 'gpu' and f.state == OK for f in findings)),
            ('npu', any(f.what == 'npu_bridge' and f.state == OK for f in findings)),
        )
        if there
    ]
    print('\n--device can be: %s' % ', '.join(usable))
    sys.exit(1 if any(finding.state == BROKEN for finding in findings) else 0)


if __name__ == '__main__':
    main()
