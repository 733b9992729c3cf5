"""Looks at this machine and says what a run here can count on: `python -m common.doctor`. Exit
status 1 if something is broken.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from typing import List, NamedTuple, Tuple

from common.ascend import cann, environment, npu_smi
from common.errors import UserError, entry_point

OK, MISSING, BROKEN = 'ok', '-', 'BROKEN'


class Finding(NamedTuple):
    """One line of the report. state: 'ok', '-' (not there, needed only for some uses) or 'BROKEN'."""

    state: str
    what: str
    found: str
    fix: str = ''


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


def _package(name: str, wanted: str, fix: str) -> Finding:
    works, found = _ask('import %s as package; print(package.__version__)' % name)
    right = works and found.startswith(wanted)
    return Finding(
        OK if right else BROKEN,
        name,
        found if works else 'does not import: ' + found,
        '' if right else 'want %s: %s' % (wanted, fix),
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


def _driver(root: str = cann.ROOT) -> Finding:
    if not shutil.which('npu-smi'):
        fix = '. %s/driver/bin/setenv.bash' % root
        return Finding(MISSING, 'Ascend driver', 'npu-smi is not on PATH', fix)
    try:
        chips = npu_smi.parse(npu_smi.info())
    except UserError as error:
        found, _, fix = str(error).partition('; ')
        return Finding(BROKEN, 'Ascend driver', found, fix)
    names = ', '.join(sorted({chip.name for chip in chips}))
    ill = ['%d (%s)' % (chip.npu, chip.health) for chip in chips if chip.health != 'OK']
    found = 'version %s, %d chips %s' % (cann.driver_version(root) or 'unknown', len(chips), names)
    if ill:
        found += '; not healthy: ' + ', '.join(ill)
    fix = 'npu-smi info -t health -i N names the fault' if ill else ''
    return Finding(OK if chips else BROKEN, 'Ascend driver', found, fix)


def _cann() -> Finding:
    installations = cann.installations()
    if not installations:
        return Finding(
            MISSING,
            'CANN',
            'no set_env.sh below %s or ~/Ascend' % cann.ROOT,
            'install ascend-toolkit and tfplugin',
        )
    newest = installations[0]
    found = '%s: %s' % (newest.generation, ' '.join(newest.scripts) or newest.folder)
    if cann.is_sourced():
        return Finding(OK, 'CANN', found)
    if not newest.scripts:
        return Finding(MISSING, 'CANN', found, 'export PATH, LD_LIBRARY_PATH, PYTHONPATH by hand')
    commands = ' && '.join('. ' + script for script in newest.scripts)
    return Finding(MISSING, 'CANN', found, commands + '   (not in a shell with set -u)')


def _adapter() -> Finding:
    if importlib.util.find_spec('npu_bridge') is None:
        return Finding(
            MISSING,
            'npu_bridge',
            'not found',
            "training on Ascend: source CANN's tfplugin/set_env.sh",
        )
    works, found = _ask(
        'from common.ascend import cann; from npu_bridge.estimator.npu.npu_config import'
        ' NPURunConfig; print(cann.adapter_release(NPURunConfig.__init__))'
    )
    return Finding(
        OK if works else BROKEN,
        'npu_bridge',
        'adapter ' + found if works else found,
        '' if works else "source CANN's set_env.sh; TensorFlow must be 1.15.0",
    )


def _job() -> Finding:
    try:
        rank, size = environment.read_rank()
    except UserError as error:
        return Finding(BROKEN, 'rank settings', str(error))
    return Finding(
        OK, 'rank settings', 'rank %s of %d' % (rank if rank >= 0 else 'from HCCL', size)
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
                '  ->  ' + finding.fix if finding.fix else '',
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
