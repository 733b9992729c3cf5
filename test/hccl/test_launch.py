"""Which environment each rank gets, and what the launcher refuses."""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import pytest
from example_tables import cloud, saved

from common.ascend.environment import CM as CM_NAMES
from common.errors import UserError
from hccl import horovod_ranks, npu_ranks
from hccl import launch as launcher
from hccl.rank_table import load, merge, write

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NAMES = (
    'RANK_ID RANK_SIZE RANK_TABLE_FILE DEVICE_ID ASCEND_DEVICE_ID JOB_ID POD_NAME'
    ' HCCL_CONNECT_TIMEOUT OMP_NUM_THREADS PYTHONPATH PATH'
).split() + list(CM_NAMES)
REPORT = """
import json, os
seen = {name: os.environ.get(name) for name in %r}
seen['cores'] = sorted(os.sched_getaffinity(0))
open('seen_%%s.json' %% os.environ['DEVICE_ID'], 'w').write(json.dumps(seen))
print('rank', seen['RANK_ID'], 'speaks')
""" % (NAMES,)


def seen(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob('seen_*.json'))]


@pytest.fixture
def npu(launch):
    """npu('flags', NAME=value): (exit status, standard output, standard error) of an NPU launch."""

    def call(flags, code=REPORT, **variables):
        return launch('--device', 'npu', *flags.split(), code=code, **variables).finish()

    return call


def test_a_table_is_generated_and_every_rank_knows_its_place(npu, tmp_path):
    status, out, err = npu('--devices 0-3')
    assert (status, err) == (0, '') and 'launch: npu (--device npu)' in out
    assert 'rank table generated for devices 0,1,2,3: logs/hccl_4p.json' in out
    path = tmp_path / 'logs' / 'hccl_4p.json'
    ips = [device.device_ip for device in load(path)]
    assert ips == ['192.168.0.%d' % (device + 1) for device in range(4)]
    ranks = seen(tmp_path)
    assert len(ranks) == 4
    for rank, variables in enumerate(ranks):
        place = [variables[name] for name in NAMES[:5]]
        assert place == [str(rank), '4', str(path), str(rank), str(rank)]
        assert variables['HCCL_CONNECT_TIMEOUT'] == '600'
        assert variables['POD_NAME'] is None and variables['CM_CHIEF_IP'] is None
    (job,) = {variables['JOB_ID'] for variables in ranks}
    assert not job.startswith('0')
    assert 'rank 0 speaks\n' in out and 'rank 1' not in out
    assert npu('--devices 0')[0] == 0
    assert seen(tmp_path)[0]['RANK_TABLE_FILE'] is None and seen(tmp_path)[0]['RANK_SIZE'] == '1'


def test_each_rank_has_its_share_of_the_cores(npu, tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip('one core')
    npu('--devices 0-1')
    first, second = (variables['cores'] for variables in seen(tmp_path))
    assert first + second == cores and abs(len(first) - len(second)) <= 1
    threads = [variables['OMP_NUM_THREADS'] for variables in seen(tmp_path)]
    assert threads == [str(len(first)), str(len(second))]


def test_a_given_table_settings_and_logs_beside_the_output(npu, tmp_path):
    given = dict(
        RANK_TABLE_FILE=saved(tmp_path / 'mine.json', 'a', 1, (4, 5)),
        HCCL_CONNECT_TIMEOUT='1200',
        JOB_ID='10087',
        OMP_NUM_THREADS='3',
    )
    status, out, _ = npu('--log_dir here', code=REPORT + '# --output_path', **given)
    assert status == 0 and 'generated' not in out
    ranks = seen(tmp_path)
    assert [(rank['RANK_ID'], rank['DEVICE_ID']) for rank in ranks] == [('0', '4'), ('1', '5')]
    assert all(rank[name] == value for rank in ranks for name, value in given.items())
    logs = sorted(path.name for path in (tmp_path / 'here').iterdir())
    assert logs == ['rank_0.log', 'rank_1.log']


def test_the_second_of_two_servers(npu, tmp_path):
    first = saved(tmp_path / 'a.json', 'a', 1, (0, 1))
    second = saved(tmp_path / 'b.json', 'b', 2, (0, 1))
    write(merge([first, second]), str(tmp_path / 'two.json'))
    assert npu('--rank_table two.json --server_index 1')[0] == 0
    assert [(rank['RANK_ID'], rank['RANK_SIZE'], rank['DEVICE_ID']) for rank in seen(tmp_path)] == [
        ('2', '4', '0'),
        ('3', '4', '1'),
    ]
    job = seen(tmp_path)[0]['JOB_ID']
    assert (tmp_path / 'logs' / 'rank_3.log').exists()
    assert npu('--rank_table two.json --server_index 0')[0] == 0
    assert seen(tmp_path)[0]['JOB_ID'] == job  # the servers agree without speaking
    for index, words in (
        ('', 'which one this is with --server_index (0 = a, 1 = b)'),
        (' --server_index 2', '--server_index 2'),
    ):
        status, _, err = npu('--rank_table two.json' + index, code='')
        assert status == 2 and words in err


def test_a_cloud_table_gives_the_pod_too(npu, tmp_path):
    """Of a single server it may lack the addresses."""
    table = cloud(1, 2)
    for device in table['group_list'][0]['instance_list'][0]['devices']:
        del device['device_ip']
    (tmp_path / 'cloud.json').write_text(json.dumps(table))
    assert npu('--rank_table cloud.json')[0] == 0
    ranks = [(rank['RANK_ID'], rank['POD_NAME']) for rank in seen(tmp_path)]
    assert ranks == [('0', 'pod0'), ('1', 'pod0')]


CM = (
    '--cm_chief_ip 10.0.0.1 --cm_chief_port 29688 --cm_chief_device 0 --cm_worker_size 2'
    ' --cm_worker_ip 10.0.0.1'
)


def test_without_a_rank_table(npu, tmp_path):
    assert npu('--devices 0-1 ' + CM)[0] == 0
    for index, variables in enumerate(seen(tmp_path)):
        assert [variables[name] for name in CM_NAMES] == CM.split()[1::2]
        assert [variables[name] for name in NAMES[:4]] == [None, None, None, str(index)]
    assert (tmp_path / 'logs' / 'rank_1.log').exists() and not list(tmp_path.glob('logs/*.json'))


def test_servers_without_a_rank_table_agree_on_the_job(npu, tmp_path):
    jobs = set()
    for worker in ('10.0.0.1', '10.0.0.2'):
        flags = CM.replace('size 2', 'size 4').replace('worker_ip 10.0.0.1', 'worker_ip ' + worker)
        assert npu('--devices 0-1 ' + flags)[0] == 0
        jobs.update(variables['JOB_ID'] for variables in seen(tmp_path))
        assert (tmp_path / 'logs' / ('%s_process_1.log' % worker)).exists()
    assert len(jobs) == 1


TWO_WAYS = 'CM_CHIEF_IP and RANK_TABLE_FILE cannot be set at the same time'
CHIEF = '--devices 0-1 --cm_chief_ip 10.0.0.1 --cm_chief_port 29688'
WRONG_PORT = 'CM_CHIEF_PORT=65521: legal are 0 to 65520'
WRONG_TIMEOUT = 'HCCL_CONNECT_TIMEOUT=60: legal are 120 to 7200'


@pytest.mark.parametrize(
    'flags, variables, words',
    [
        ('--devices 0-1', {'RANK_ID': '3'}, 'RANK_ID=3 is set in this shell'),
        ('--devices 0-1', {'RANK_SIZE': '8'}, 'RANK_SIZE=8 is set in this shell'),
        ('--devices 0-1', {'DEVICE_ID': '0'}, 'unset DEVICE_ID'),
        ('--devices 0-1 --rank_table x.json', {'CM_CHIEF_IP': '10.0.0.1'}, TWO_WAYS),
        ('--devices 0-1 ' + CM, {'RANK_TABLE_FILE': 'x.json'}, TWO_WAYS),
        ('--devices 0-1 ' + CM, {'RANK_SIZE': '2'}, 'CM_CHIEF_IP and RANK_SIZE cannot be set'),
        (CHIEF, {}, 'CM_CHIEF_DEVICE, CM_WORKER_SIZE, CM_WORKER_IP missing'),
        ('--devices 0-2 ' + CM, {}, '--cm_worker_size 2'),
        ('--devices 0-1 ' + CM.replace('29688', '65521'), {}, WRONG_PORT),
        ('--devices 0-1', {'HCCL_CONNECT_TIMEOUT': '60'}, WRONG_TIMEOUT),
        ('--devices 0-1', {'JOB_ID': '0123'}, 'JOB_ID=0123'),
        ('--devices 0-1', {'JOB_ID': 'a b'}, 'JOB_ID=a b'),
        ('--devices 2-5', {}, '0-3 and 4-7 are two rings'),
        ('--rank_table x.json', {}, 'error: rank table x.json: No such file or'),
        ('', {}, '--devices is missing: say which devices'),
    ],
)
def test_contradictions_and_mistakes_are_one_line(npu, flags, variables, words):
    status, _, err = npu(flags, code='raise SystemExit("must not start")', **variables)
    assert status == 2
    assert err.startswith('error: ') and err.count('\n') == 1 and words in err


def test_other_devices_than_the_table_has(npu, tmp_path):
    flags = '--devices 0-1 --rank_table ' + saved(tmp_path / 'mine.json', 'a', 1, (4, 5))
    status, _, err = npu(flags, code='')
    assert status == 2 and '--devices 0,1, but' in err and 'the devices 4,5' in err


def test_settings_that_agree_are_no_contradiction(npu):
    assert npu('--devices 0', RANK_ID='0', RANK_SIZE='1', DEVICE_ID='0')[0] == 0


def test_a_container_that_sees_other_numbers(monkeypatch, tmp_path):
    monkeypatch.setattr(npu_ranks, 'DEVICE_FILES', str(tmp_path / 'davinci[0-9]*'))
    for name in list(os.environ):
        if name.startswith(('RANK_', 'CM_', 'DEVICE_', 'ASCEND_', 'JOB_ID')):
            monkeypatch.delenv(name)
    for device in (4, 5):
        (tmp_path / ('davinci%d' % device)).touch()
    (tmp_path / 'davinci_manager').touch()
    args = launcher._parser().parse_args(['--devices', '4'])
    settings = npu_ranks.local_ranks(args, [4], tmp_path)[0].variables
    assert (settings['DEVICE_ID'], settings['ASCEND_DEVICE_ID']) == ('4', None)
    with pytest.raises(UserError, match='no device 6; it has 4,5'):
        npu_ranks.local_ranks(args, [6], tmp_path)


@pytest.mark.parametrize(
    'device, command, smi, variables, expected',
    [
        ('auto', [], 0, {}, ('cpu', 'neither')),
        ('auto', [], 2, {}, ('gpu', 'nvidia-smi lists 2')),
        ('auto', [], 2, {'CUDA_VISIBLE_DEVICES': ''}, ('cpu', 'neither')),
        ('auto', ['--device=cpu'], 2, {}, ('cpu', 'in the command')),
        ('auto', ['--device', 'auto'], 2, {}, ('gpu', 'nvidia-smi')),
        ('npu', [], 0, {}, ('npu', '--device npu')),
    ],
)
def test_choice_of_the_device(monkeypatch, tmp_path, device, command, smi, variables, expected):
    monkeypatch.setattr(launcher.cann, 'has_adapter', lambda: False)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setenv('PATH', str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    lines = ['#!/bin/sh'] + ['echo "GPU %d: Tesla"' % index for index in range(smi)]
    (tmp_path / 'nvidia-smi').write_text('\n'.join(lines))
    (tmp_path / 'nvidia-smi').chmod(0o755)
    name, why = launcher.choose(argparse.Namespace(device=device, command=['run.py'] + command))
    assert name == expected[0] and expected[1] in why


def test_npu_bridge_is_found_without_importing_it(launch, tmp_path):
    """python -m has the current folder on its path."""
    (tmp_path / 'npu_bridge').mkdir()
    (tmp_path / 'npu_bridge' / '__init__.py').write_text('raise SystemExit("imported")')
    status, out, _ = launch('--devices', '0', code='').finish()
    assert status == 0 and 'npu (npu_bridge is installed)' in out


TWO_DEVICES = '--device npu for the launcher and --device cpu in the command'


@pytest.mark.parametrize(
    'words, expected',
    [
        ('--device cpu', 'no command'),
        ('--device cpu -- no-such-program', 'no-such-program does not start'),
        ('--device npu -- x --device cpu', TWO_DEVICES),
    ],
)
def test_commands_that_are_not_started(tmp_path, words, expected):
    process = subprocess.run(
        [sys.executable, '-m', 'hccl.launch', '--devices', '0', *words.split()],
        cwd=str(tmp_path),
        env={'PYTHONPATH': str(ROOT)},
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )
    assert process.returncode == 2
    assert process.stderr.startswith('error: ') and expected in process.stderr


def test_npu_flags_elsewhere(launch, tmp_path):
    flags = '--device cpu --devices 0 --server_index 0'
    status, _, err = launch(*flags.split(), code='').finish()
    assert status == 2 and '--server_index is for Ascend NPU' in err


def test_no_horovod(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, 'executable', str(tmp_path / 'python'))
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(UserError, match=r'no horovodrun beside .*: run \./setup\.sh --horovod'):
        with horovod_ranks.environments(2, tmp_path):
            pass
    (tmp_path / 'horovodrun').write_text('#!/bin/sh\necho "gloo is not built"\nexit 1\n')
    (tmp_path / 'horovodrun').chmod(0o755)
    with pytest.raises(UserError, match='horovodrun did not start 2 processes: gloo is not built'):
        with horovod_ranks.environments(2, tmp_path):
            pass
