"""What the doctor finds on machines that are made up: no driver, a driver, CANN of several ages,
broken packages, wrong settings.
"""

import pathlib
import re
import subprocess
import sys

import pytest

from common import doctor
from common.ascend.cann import Installation
from common.doctor import BROKEN, MISSING, OK

SIM = pathlib.Path(__file__).resolve().parent.parent / 'ascend_sim'
SETTINGS = (
    'RANK_ID RANK_SIZE RANK_TABLE_FILE DEVICE_ID ASCEND_DEVICE_ID HCCL_CONNECT_TIMEOUT TF_CONFIG'
    ' CM_CHIEF_IP CM_CHIEF_PORT CM_CHIEF_DEVICE CM_WORKER_SIZE CM_WORKER_IP'
).split()


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """tool(name, text): a command that prints the text; PATH has no other."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    monkeypatch.setenv('PATH', '%s:/bin:/usr/bin' % folder)

    def make(name, text='', status=0):
        path = folder / name
        path.write_text("#!/bin/sh\ncat <<'END'\n%s\nEND\nexit %d\n" % (text, status))
        path.chmod(0o755)

    return make


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('')
    return str(path)


# The driver


def test_no_driver(tool, tmp_path):
    finding = doctor._driver('/no/such')
    assert (finding.state, finding.name) == (MISSING, 'Ascend driver')
    assert 'npu-smi is not on PATH' in finding.detail
    assert finding.fix == 'install driver and firmware'
    script = touch(tmp_path / 'driver' / 'bin' / 'setenv.bash')
    assert doctor._driver(str(tmp_path)).fix == '. ' + script


@pytest.mark.parametrize(
    'name, found, health',
    [
        ('910B3', '2 chips 910B3', ''),
        ('910_93', '2 chips Ascend910', ''),
        ('910A', '2 chips 910A', '; not healthy: 1 (Warning)'),
        ('310B4', '1 chips 310B4', '; not healthy: 0 (Alarm)'),
    ],
)
def test_a_driver_tells_its_chips_health_and_version(tool, tmp_path, name, found, health):
    tool('npu-smi', (SIM.parent / 'data' / 'npu_smi' / (name + '.txt')).read_text())
    (tmp_path / 'driver').mkdir()
    (tmp_path / 'driver' / 'version.info').write_text('Version=21.0.4\npackage=driver\n')
    finding = doctor._driver(str(tmp_path))
    assert finding.state == OK and finding.detail == 'version 21.0.4, ' + found + health
    assert bool(finding.fix) is bool(health)


def test_a_driver_that_finds_no_device_is_broken(tool):
    error = 'dcmi module initialize failed. ret is -8005'
    tool('npu-smi', 'DrvMngGetConsoleLogLevel failed. (g_conLogLevel=3)\n' + error, status=1)
    finding = doctor._driver('/no/such')
    assert finding.state == BROKEN and error in finding.detail and 'driver' in finding.fix
    tool('npu-smi', 'an empty table')
    assert doctor._driver('/no/such').state == BROKEN


# CANN


@pytest.mark.parametrize('sourced', [False, True])
def test_cann_that_is_there_but_not_sourced(monkeypatch, sourced):
    scripts = ['/a/set_env.sh', '/b/set_env.sh']
    monkeypatch.setattr(
        doctor.cann, 'installations', lambda: [Installation('CANN 6 and newer', '/a', scripts)]
    )
    monkeypatch.delenv('ASCEND_OPP_PATH', raising=False)
    if sourced:
        monkeypatch.setenv('ASCEND_OPP_PATH', '/a/opp')
    finding = doctor._cann()
    assert finding.state == (OK if sourced else MISSING)
    places = 'sourced: ASCEND_OPP_PATH=/a/opp', 'CANN 6 and newer: /a/set_env.sh /b/set_env.sh'
    assert finding.detail == places[not sourced]
    assert finding.fix.startswith('' if sourced else '. /a/set_env.sh && . /b/set_env.sh')
    assert bool(finding.fix) is not sourced


def test_cann_in_a_place_of_its_own(monkeypatch):
    monkeypatch.setattr(doctor.cann, 'installations', lambda: [])
    monkeypatch.setenv('ASCEND_OPP_PATH', '/opt/cann/opp')
    assert doctor._cann()[:3] == (OK, 'CANN', 'sourced: ASCEND_OPP_PATH=/opt/cann/opp')


def test_no_cann(monkeypatch):
    monkeypatch.setattr(doctor.cann, 'installations', lambda: [])
    monkeypatch.delenv('ASCEND_OPP_PATH', raising=False)
    assert doctor._cann().state == MISSING
    assert 'install ascend-toolkit and tfplugin' in doctor._cann().fix


# The adapter


def test_no_adapter(monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, 'find_spec', lambda name: None)
    assert doctor._adapter()[:3] == (MISSING, 'npu_bridge', 'not found')


@pytest.mark.slow
def test_an_adapter_tells_its_release(monkeypatch, tmp_path):
    monkeypatch.setenv('PYTHONPATH', '%s:%s' % (SIM.parent.parent, SIM / 'python'))
    monkeypatch.setenv('ASCEND_SIM_RELEASE', 'r1.9.0')
    monkeypatch.setenv('ASCEND_SIM_DIR', str(tmp_path))
    monkeypatch.setattr(doctor.importlib.util, 'find_spec', lambda name: name)
    assert doctor._adapter() == doctor.Finding(OK, 'npu_bridge', 'adapter r1.9.0')


def test_an_adapter_that_does_not_import(monkeypatch, tmp_path):
    (tmp_path / 'npu_bridge').mkdir()
    (tmp_path / 'npu_bridge' / '__init__.py').write_text(
        'raise ImportError("libge_runner.so: cannot open shared object file")'
    )
    monkeypatch.setenv('PYTHONPATH', '%s:%s' % (SIM.parent.parent, tmp_path))
    monkeypatch.setattr(doctor.importlib.util, 'find_spec', lambda name: name)
    finding = doctor._adapter()
    assert finding.state == BROKEN
    assert 'libge_runner.so' in finding.detail and 'set_env.sh' in finding.fix


# Settings, packages


def test_rank_settings(monkeypatch, tmp_path):
    assert doctor._job()[:3] == (OK, 'rank settings', 'rank 0 of 1')
    monkeypatch.setenv('RANK_SIZE', '8')
    assert doctor._job().state == BROKEN and 'RANK_TABLE_FILE is not set' in doctor._job().detail
    monkeypatch.setenv('RANK_TABLE_FILE', touch(tmp_path / 'table.json'))
    monkeypatch.setenv('RANK_ID', '3')
    assert doctor._job().detail == 'rank 3 of 8'
    for name in ('RANK_SIZE', 'RANK_TABLE_FILE', 'RANK_ID'):
        monkeypatch.delenv(name)
    for name, value in zip(SETTINGS[-5:], ('a', '1', '0', '16', 'b')):
        monkeypatch.setenv(name, value)
    assert doctor._job().detail == 'rank from HCCL of 16'


@pytest.mark.parametrize(
    'body, state, found',
    [
        ('__version__ = "1.15.0"', OK, '1.15.0'),
        ('__version__ = "2.4.0"', BROKEN, '2.4.0'),
        ('import no_such_thing', BROKEN, 'does not import: .*no_such_thing'),
        ('import os; os.abort()', BROKEN, 'does not import: ended with status'),
    ],
)
def test_packages_are_imported_in_a_process_of_their_own(monkeypatch, tmp_path, body, state, found):
    """A package that takes its process with it is reported like any other."""
    (tmp_path / 'made_up.py').write_text(body)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    finding = doctor._package('made_up', '1.15')
    assert finding.state == state and re.match(found, finding.detail)
    assert finding.fix == (
        '' if state == OK else 'want 1.15: ./setup.sh installs the pinned version'
    )


def test_tensorflow_on_aarch64_is_built_by_hand(monkeypatch):
    monkeypatch.setattr(doctor, '_run', lambda code: (False, "No module named 'tensorflow'"))
    assert 'SYSTEM_SITE_PACKAGES' not in doctor._package('tensorflow', '1.15').fix
    monkeypatch.setattr(doctor.platform, 'machine', lambda: 'aarch64')
    finding = doctor._package('tensorflow', '1.15')
    assert finding.state == BROKEN and 'SYSTEM_SITE_PACKAGES=1 ./setup.sh' in finding.fix


def test_packages_of_the_compiler_of_cann_are_each_imported(monkeypatch, tmp_path):
    assert doctor._compiler().state in (OK, MISSING, BROKEN)
    monkeypatch.setattr(doctor.cann, 'is_installed', lambda: True)
    monkeypatch.setattr(doctor.cann, 'COMPILER_IMPORTS', ('psutil', 'sim_a', 'sim_b'))
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    (tmp_path / 'sim_a.py').write_text('')
    (tmp_path / 'sim_b.py').write_text('import os; os.abort()')
    finding = doctor._compiler()
    assert finding.state == BROKEN and finding.detail.endswith('CANN cannot import sim_b')
    assert './setup.sh' in finding.fix
    (tmp_path / 'sim_b.py').write_text('')
    assert doctor._compiler().state == OK


@pytest.mark.parametrize('installed', [False, True])
def test_python_as_a_shared_library(monkeypatch, tmp_path, installed):
    variables = {'LDVERSION': '3.7m', 'LIBDIR': str(tmp_path)}
    monkeypatch.setattr(doctor.sysconfig, 'get_config_var', variables.get)
    monkeypatch.setattr(doctor.sys, 'base_prefix', '/no/such')
    monkeypatch.setattr(doctor.cann, 'is_installed', lambda: installed)
    finding = doctor._libpython()
    assert finding.state == (BROKEN if installed else MISSING) and '--enable-shared' in finding.fix
    touch(tmp_path / 'libpython3.7m.so.1.0')
    assert doctor._libpython().state == OK


def test_tools_are_looked_for_on_the_path(tool, monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    tool('atc')
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    assert doctor._tool('atc', '').state == OK
    assert doctor._tool('msame', 'build it')[:4] == (MISSING, 'msame', 'not on PATH', 'build it')


def test_the_module_ais_bench_stands_in_for_msame(tool, monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    assert doctor._msame().state == MISSING
    tool('python3')  # whose exit status is 0: it has the module
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    finding = doctor._msame()
    assert finding.state == OK and '--backend ais_bench' in finding.detail
    tool('msame')
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    assert doctor._msame().detail.endswith('bin/msame')


# The report


NEEDED = sorted({name for needs in doctor.USES.values() for name in needs})


def report(monkeypatch, capsys, **states):
    """The exit status and the lines of a machine that is ready but for these."""
    findings = [
        doctor.Finding(states.get(name, OK), name, 'found', '' if name not in states else 'fix it')
        for name in NEEDED
    ]
    monkeypatch.setattr(doctor, 'examine', lambda: findings)
    with pytest.raises(SystemExit) as stop:
        doctor.main([])
    return stop.value.code, capsys.readouterr().out.splitlines()


def test_a_machine_that_has_everything(monkeypatch, capsys):
    status, lines = report(monkeypatch, capsys)
    assert status == 0 and len(lines) == len(NEEDED) + 1 + len(doctor.USES)
    assert all(line.startswith('ready ') for line in lines[-len(doctor.USES) :])


def test_each_use_has_one_next_step(monkeypatch, capsys):
    status, lines = report(monkeypatch, capsys, gpu=MISSING, CANN=MISSING, atc=MISSING)
    assert status == 0 and '-       gpu              found  ->  fix it' in lines
    assert 'not yet  GPU (--device gpu)  ->  gpu: fix it' in lines
    for use, step in (
        ('CPU (--device cpu)', ''),
        ('GPU (--device gpu)', 'gpu: fix it'),
        ('Ascend training (--device npu)', 'CANN: fix it'),
        ('Ascend inference', 'CANN: fix it'),
        ('ModelArts (--data_url obs://...)', ''),
    ):
        assert dict(doctor.readiness(doctor.examine()))[use] == step


def test_something_broken_is_status_1(monkeypatch, capsys):
    status, lines = report(monkeypatch, capsys, tensorflow=BROKEN)
    assert status == 1 and any(line.startswith('BROKEN  tensorflow') for line in lines)
    assert all(line.startswith('not yet') for line in lines[-len(doctor.USES) :])


def test_a_python_without_any_package_can_run_it():
    code = 'from common import doctor; doctor._run = lambda code: (False, "x"); doctor.main([])'
    answer = subprocess.run(
        [sys.executable, '-S', '-c', code],
        cwd=str(SIM.parent.parent),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert answer.returncode == 1 and not answer.stderr
    assert 'not yet  CPU (--device cpu)  ->  tensorflow: want 1.15' in answer.stdout
