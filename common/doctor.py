"""Looks at this machine and says for each use whether it is ready, and if not the next step:
`python -m common.doctor`. Exit status 1 if something is broken.
"""

import glob
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from typing import List, NamedTuple, Optional, Sequence, Tuple

from common import host
from common.ascend import cann, environment, npu_smi
from common.errors import Parser, UserError, entry_point

OK, MISSING, BROKEN = 'ok', '-', 'BROKEN'


class Finding(NamedTuple):
    """One line of the report. state: 'ok', '-' (missing, needed for some uses) or 'BROKEN'."""

    state: str
    name: str
    detail: str
    fix: str = ''


_BASE = ('python', 'tensorflow', 'numpy', 'google.protobuf', 'cv2')
_NPU = _BASE + ('Ascend driver', 'CANN')
# What each use needs, in the order in which to set it up.
USES = {
    'CPU (--device cpu)': _BASE,
    'several processes on CPU or GPU': _BASE + ('horovod',),
    'GPU (--device gpu)': _BASE + ('gpu',),
    'Ascend training (--device npu)': _NPU
    + ('compiler', 'libpython', 'npu_bridge', 'rank settings'),
    'Ascend inference': _NPU + ('compiler', 'libpython', 'atc', 'msame'),
    'ONNX inference': _BASE + ('onnxruntime',),
    'ModelArts (--data_url obs://...)': _BASE + ('moxing',),
}


def _finding(name: str, works: bool, detail: str, fix: str, state: str = BROKEN) -> Finding:
    return Finding(OK, name, detail) if works else Finding(state, name, detail, fix)


def _run(code: str) -> Tuple[bool, str]:
    """Runs code in a Python of its own, because a broken package may take the process with it.
    Returns (it worked, its last line).
    """
    process = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL='3'),
    )
    lines = [line for line in process.stdout.decode(errors='replace').splitlines() if line.strip()]
    return process.returncode == 0, (
        lines[-1][:110] if lines else 'ended with status %d' % process.returncode
    )


def _package(name: str, version: str) -> Finding:
    code = 'import %s as package; print(package.__version__)' % name
    if name == 'tensorflow':  # and which build of it
        code = 'import tensorflow; from common import host; print(host.describe()["tensorflow"])'
    works, detail = _run(code)
    fix = './setup.sh installs the pinned version'
    if name == 'tensorflow' and platform.machine() == 'aarch64':
        fix = (
            'TensorFlow 1.15 has no wheel for aarch64: build it, install it for a Python 3.7, run'
            ' PYTHON=/path/to/python3.7 SYSTEM_SITE_PACKAGES=1 ./setup.sh'
        )
    detail = detail if works else 'does not import: ' + detail
    return _finding(name, detail.startswith(version), detail, 'want %s: %s' % (version, fix))


def _python() -> Finding:
    machine = platform.python_version(), platform.machine(), host.cores()
    fix = 'TensorFlow 1.15 needs Python 3.7: ./setup.sh, then .venv/bin/python'
    return _finding('python', sys.version_info[:2] == (3, 7), '%s on %s, %d cores' % machine, fix)


def _horovod() -> Finding:
    works, detail = _run(
        'import horovod.tensorflow as h; print("gloo=%s nccl=%s" % (bool(h.gloo_built()),'
        ' bool(h.nccl_built())))'
    )
    return _finding('horovod', works, detail, './setup.sh --horovod', MISSING)


def _gpu() -> Finding:
    fix = 'install tensorflow-gpu==1.15.0 with CUDA 10.0 and cuDNN 7.6'
    is_available, _ = _run(
        'import sys; from common.devices import gpu; sys.exit(not gpu.available())'
    )
    return _finding(
        'gpu', is_available, 'found' if is_available else 'TensorFlow sees none', fix, MISSING
    )


def _driver(root: str = cann.ROOT) -> Finding:
    if not shutil.which('npu-smi'):
        script = root + '/driver/bin/setenv.bash'
        fix = '. ' + script if os.path.isfile(script) else 'install driver and firmware'
        return Finding(MISSING, 'Ascend driver', 'npu-smi is not on PATH', fix)
    try:
        chips = npu_smi.parse(npu_smi.info())
    except UserError as error:
        detail, _, fix = str(error).partition('; ')
        return Finding(BROKEN, 'Ascend driver', detail, fix)
    names = ', '.join(sorted({chip.name for chip in chips}))
    unhealthy = ['%d (%s)' % (chip.npu, chip.health) for chip in chips if chip.health != 'OK']
    detail = 'version %s, %d chips %s' % (cann.driver_version(root) or 'unknown', len(chips), names)
    if unhealthy:
        detail += '; not healthy: ' + ', '.join(unhealthy)
    fix = 'npu-smi info -t health -i N names the fault' if unhealthy else ''
    return Finding(OK if chips else BROKEN, 'Ascend driver', detail, fix)


def _cann() -> Finding:
    if not cann.is_installed():
        detail = 'no set_env.sh below %s or ~/Ascend' % cann.ROOT
        return Finding(MISSING, 'CANN', detail, 'install ascend-toolkit and tfplugin')
    if cann.is_sourced():
        return Finding(OK, 'CANN', 'sourced: ASCEND_OPP_PATH=%s' % os.environ['ASCEND_OPP_PATH'])
    newest = cann.installations()[0]
    detail = '%s: %s' % (newest.generation, ' '.join(newest.scripts) or newest.folder)
    commands = ' && '.join('. ' + script for script in newest.scripts)
    fix = commands or 'export PATH, LD_LIBRARY_PATH and PYTHONPATH by hand'
    return Finding(MISSING, 'CANN', detail, fix + '   (not in a shell with set -u)')


def _adapter() -> Finding:
    if not cann.has_adapter():
        return Finding(MISSING, 'npu_bridge', 'not found', "source CANN's tfplugin/set_env.sh")
    works, detail = _run(
        'from common.ascend import cann; from npu_bridge.estimator.npu.npu_config import'
        ' NPURunConfig; print("adapter", cann.adapter_release(NPURunConfig.__init__))'
    )
    fix = "source CANN's set_env.sh; TensorFlow must be 1.15.0"
    return _finding('npu_bridge', works, detail, fix)


def _job() -> Finding:
    try:
        rank, size = environment.read_rank()
    except UserError as error:
        return Finding(BROKEN, 'rank settings', str(error), 'unset them, or use hccl.launch')
    name = rank if rank >= 0 else 'from HCCL'
    return Finding(OK, 'rank settings', 'rank %s of %d' % (name, size))


def _compiler() -> Finding:
    """CANN compiles operators inside the training process, with this Python's packages."""
    if not cann.is_installed():
        return Finding(MISSING, 'compiler', 'not needed without CANN')
    missing = [name for name in cann.COMPILER_IMPORTS if not _run('import ' + name)[0]]
    detail = 'CANN cannot import ' + ', '.join(missing) if missing else 'its imports are there'
    fix = './setup.sh installs them where CANN is installed'
    return _finding('compiler', not missing, detail, fix)


def _libpython() -> Finding:
    """CANN loads this Python into its own compiler, which needs it as a shared library."""
    name = 'libpython%s.so' % sysconfig.get_config_var('LDVERSION')
    for folder in (sysconfig.get_config_var('LIBDIR') or '', os.path.join(sys.base_prefix, 'lib')):
        if glob.glob(os.path.join(folder, name + '*')):
            return Finding(OK, 'libpython', os.path.join(folder, name))
    state = BROKEN if cann.is_installed() else MISSING
    fix = 'build Python 3.7 with --enable-shared, and put its lib folder on LD_LIBRARY_PATH'
    return Finding(state, 'libpython', 'this Python has no ' + name, fix)


def _tool(name: str, fix: str) -> Finding:
    path = shutil.which(name)
    return _finding(name, path is not None, path or 'not on PATH', fix, MISSING)


def _msame() -> Finding:
    """msame, or ais_bench in its place."""
    python = '' if shutil.which('msame') else cann.python_with_ais_bench()
    if python:
        return Finding(OK, 'msame', 'ais_bench of %s; give --backend ais_bench' % python)
    return _tool('msame', 'build msame, or install ais_bench: offline_inference/README.md')


def _moxing() -> Finding:
    is_installed = importlib.util.find_spec('moxing') is not None
    detail = 'installed' if is_installed else 'not installed'
    return _finding(
        'moxing', is_installed, detail, 'it exists on ModelArts only: start a job there', MISSING
    )


def examine() -> List[Finding]:
    """All findings, in the order of the report."""
    return [
        _python(),
        _package('tensorflow', '1.15'),
        _package('numpy', '1.'),
        _package('google.protobuf', '3.'),
        _package('cv2', '4.'),
        _package('onnxruntime', '1.'),
        _horovod(),
        _gpu(),
        _driver(),
        _cann(),
        _compiler(),
        _libpython(),
        _adapter(),
        _job(),
        _tool('atc', 'it comes with the CANN toolkit: source its set_env.sh'),
        _msame(),
        _tool('hccn_tool', 'it comes with the driver: /usr/local/Ascend/driver/tools'),
        _moxing(),
    ]


def readiness(findings: List[Finding]) -> List[Tuple[str, str]]:
    """(use, '' if it is ready, else the next step) for each use."""
    by_name = {finding.name: finding for finding in findings}
    steps = []
    for use, needs in USES.items():
        unmet = [by_name[name] for name in needs if by_name[name].state != OK]
        steps.append((use, '%s: %s' % (unmet[0].name, unmet[0].fix) if unmet else ''))
    return steps


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    Parser(prog='python -m common.doctor', description=__doc__).parse_args(argv)
    findings = examine()
    for finding in findings:
        fix = '  ->  ' + finding.fix if finding.fix else ''
        print('%-7s %-16s %s%s' % (finding.state, finding.name, finding.detail, fix))
    print()
    for use, step in readiness(findings):
        print('%-8s %s%s' % ('not yet' if step else 'ready', use, '  ->  ' + step if step else ''))
    sys.exit(1 if any(finding.state == BROKEN for finding in findings) else 0)


if __name__ == '__main__':
    main()
