"""Which environment each rank gets, and what the launcher refuses."""

import argparse
import json
import os
import pathlib
import subprocess
import sys

import pytest

from common.ascend.environment import CM as CM_NAMES
from common.errors import UserError
from hccl import horovod_ranks, npu_ranks
from hccl import launch as launcher
from hccl.rank_table import generate, load, merge, write

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NAMES = (
    'RANK_ID',
    'RANK_SIZE',
    'RANK_TABLE_FILE',
    'DEVICE_ID',
    'ASCEND_DEVICE_ID',
    'JOB_ID',
    'POD_NAME',
    'HCCL_CONNECT_TIMEOUT',
    'OMP_NUM_THREADS',
    'PYTHONPATH',
    'PATH',
) + CM_NAMES
REPORT = """
import json, os
seen = {name: os.environ.get(name) for name in %r}
seen['cores'] = sorted(os.sched_getaffinity(0))
open('seen_%%s.json' %% os.environ['DEVICE_ID'], 'w').write(json.dumps(seen))
print('rank', seen['RANK_ID'], 'speaks')
""" % (NAMES,)


def seen(folder):
    return [json.loads(path.read_text()) for path in sorted(folder.glob('seen_*.json'))]


def table(path, server_id='a', devices=(4, 5), third=1):
    write(
        generate(
            list(devices), server_id, ['192.168.%d.%d' % (third, device) for device in devices]
        ),
        str(path),
    )
    return str(path)


def test_a_table_is_generated_and_every_rank_knows_its_place(launch, tmp_path):
    status, out, err = launch('--device', 'npu', '--devices', '0-3', code=REPORT).finish()
    assert (status, err) == (0, '')
    path = tmp_path / 'logs' / 'hccl_4p.json'
    assert (
        'launch: npu (--device npu)' in out
        and 'rank table generated for devices 0,1,2,3: logs/hccl_4p.json' in out
    )
    assert [device.device_ip for device in load(path).servers[0].devices] == [
        '192.168.0.%d' % (device + 1) for device in range(4)
    ]
    ranks = seen(tmp_path)
    assert len(ranks) == 4
    for rank, variables in enumerate(ranks):
        assert [variables[name] for name in NAMES[:5]] == [
            str(rank),
            '4',
            str(path),
            str(rank),
            str(rank),
        ]
        assert (
            variables['HCCL_CONNECT_TIMEOUT'] == '600'
            and variables['POD_NAME'] is None
            and variables['CM_CHIEF_IP'] is None
        )
    assert len({variables['JOB_ID'] for variables in ranks}) == 1 and not ranks[0][
        'JOB_ID'
    ].startswith('0')
    assert 'rank 0 speaks\n' in out and 'rank 1' not in out
    assert launch('--device', 'npu', '--devices', '0', code=REPORT).finish()[0] == 0
    assert seen(tmp_path)[0]['RANK_TABLE_FILE'] is None and seen(tmp_path)[0]['RANK_SIZE'] == '1'


def test_each_rank_has_its_share_of_the_cores(launch, tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip('one core')
    launch('--device', 'npu', '--devices', '0-1', code=REPORT).finish()
    first, second = (variables['cores'] for variables in seen(tmp_path))
    assert first + second == cores and abs(len(first) - len(second)) <= 1
    assert [variables['OMP_NUM_THREADS'] for variables in seen(tmp_path)] == [
        str(len(first)),
        str(len(second)),
    ]


def test_a_given_table_settings_and_logs_beside_the_output(launch, tmp_path):
    path = table(tmp_path / 'mine.json')
    code = REPORT + '# --output_path'
    flags = ['--device', 'npu', '--log_dir', 'here']
    status, out, _ = launch(
        *flags,
        code=code,
        RANK_TABLE_FILE=path,
        HCCL_CONNECT_TIMEOUT='1200',
        JOB_ID='10087',
        OMP_NUM_THREADS='3',
    ).finish()
    assert status == 0 and 'generated' not in out
    assert [
        (
            rank['RANK_ID'],
            rank['DEVICE_ID'],
            rank['JOB_ID'],
            rank['HCCL_CONNECT_TIMEOUT'],
            rank['OMP_NUM_THREADS'],
            rank['RANK_TABLE_FILE'],
        )
        for rank in seen(tmp_path)
    ] == [('0', '4', '10087', '1200', '3', path), ('1', '5', '10087', '1200', '3', path)]
    assert sorted(path.name for path in (tmp_path / 'here').iterdir()) == [
        'rank_0.log',
        'rank_1.log',
    ]


def test_the_second_of_two_servers(launch, tmp_path):
    write(
        merge(
            [table(tmp_path / 'a.json', 'a', (0, 1), 1), table(tmp_path / 'b.json', 'b', (0, 1), 2)]
        ),
        str(tmp_path / 'two.json'),
    )
    flags = ['--device', 'npu', '--rank_table', str(tmp_path / 'two.json')]
    assert launch(*flags, '--server_index', '1', code=REPORT).finish()[0] == 0
    assert [(rank['RANK_ID'], rank['RANK_SIZE'], rank['DEVICE_ID']) for rank in seen(tmp_path)] == [
        ('2', '4', '0'),
        ('3', '4', '1'),
    ]
    job = seen(tmp_path)[0]['JOB_ID']
    assert (tmp_path / 'logs' / 'rank_3.log').exists()
    assert launch(*flags, '--server_index', '0', code=REPORT).finish()[0] == 0
    assert seen(tmp_path)[0]['JOB_ID'] == job  # the servers agree without speaking
    for index, words in (
        ((), 'which one this is with --server_index (0 = a, 1 = b)'),
        (('--server_index', '2'), '--server_index 2'),
    ):
        status, _, err = launch(*(flags + list(index)), code='').finish()
        assert status == 2 and words in err


def test_a_cloud_table_gives_the_pod_too(launch, tmp_path):
    (tmp_path / 'cloud.json').write_text(
        json.dumps(
            {
                'status': 'completed',
                'group_count': '1',
                'group_list': [
                    {
                        'group_name': 'worker',
                        'device_count': '2',
                        'instance_count': '1',
                        'instance_list': [
                            {
                                'pod_name': 'npu2p',
                                'server_id': '127.0.0.1',
                                'devices': [{'device_id': '0'}, {'device_id': '1'}],
                            }
                        ],
                    }
                ],
            }
        )
    )
    assert launch('--device', 'npu', '--rank_table', 'cloud.json', code=REPORT).finish()[0] == 0
    assert [(rank['RANK_ID'], rank['POD_NAME']) for rank in seen(tmp_path)] == [
        ('0', 'npu2p'),
        ('1', 'npu2p'),
    ]


CM = [
    '--cm_chief_ip',
    '10.0.0.1',
    '--cm_chief_port',
    '29688',
    '--cm_chief_device',
    '0',
    '--cm_worker_size',
    '2',
    '--cm_worker_ip',
    '10.0.0.1',
]


def test_without_a_rank_table(launch, tmp_path):
    assert launch('--device', 'npu', '--devices', '0-1', *CM, code=REPORT).finish()[0] == 0
    for index, variables in enumerate(seen(tmp_path)):
        assert [variables[name] for name in CM_NAMES] == CM[1::2]
        assert [variables[name] for name in NAMES[:4]] == [None, None, None, str(index)]
    assert (tmp_path / 'logs' / 'rank_1.log').exists() and not list(tmp_path.glob('logs/*.json'))


def test_servers_without_a_rank_table_agree_on_the_job(launch, tmp_path):
    jobs = set()
    for worker in ('10.0.0.1', '10.0.0.2'):
        flags = [*CM[:6], '--cm_worker_size', '4', '--cm_worker_ip', worker]
        assert launch('--device', 'npu', '--devices', '0-1', *flags, code=REPORT).finish()[0] == 0
        jobs.update(variables['JOB_ID'] for variables in seen(tmp_path))
        assert (tmp_path / 'logs' / ('%s_process_1.log' % worker)).exists()
    assert len(jobs) == 1


@pytest.mark.parametrize(
    'flags, variables, words',
    [
        (['--devices', '0-1'], {'RANK_ID': '3'}, 'RANK_ID=3 is set in this shell'),
        (['--devices', '0-1'], {'RANK_SIZE': '8'}, 'RANK_SIZE=8 is set in this shell'),
        (['--devices', '0-1'], {'DEVICE_ID': '0'}, 'unset DEVICE_ID'),
        (
            ['--devices', '0-1', '--rank_table', 'x.json'],
            {'CM_CHIEF_IP': '10.0.0.1'},
            'CM_CHIEF_IP and RANK_TABLE_FILE cannot be set at the same time',
        ),
        (
            ['--devices', '0-1'] + CM,
            {'RANK_TABLE_FILE': 'x.json'},
            'CM_CHIEF_IP and RANK_TABLE_FILE cannot be set at the same time',
        ),
        (['--devices', '0-1'] + CM, {'RANK_SIZE': '2'}, 'CM_CHIEF_IP and RANK_SIZE cannot be set'),
        (
            ['--devices', '0-1'] + CM[:4],
            {},
            'CM_CHIEF_DEVICE, CM_WORKER_SIZE, CM_WORKER_IP missing',
        ),
        (['--devices', '0-2'] + CM, {}, '--cm_worker_size 2'),
        (
            ['--devices', '0-1'] + CM[:2] + ['--cm_chief_port', '65521'] + CM[4:],
            {},
            'CM_CHIEF_PORT=65521: legal are 0 to 65520',
        ),
        (
            ['--devices', '0-1'],
            {'HCCL_CONNECT_TIMEOUT': '60'},
            'HCCL_CONNECT_TIMEOUT=60: legal are 120 to 7200',
        ),
        (['--devices', '0-1'], {'JOB_ID': '0123'}, 'JOB_ID=0123'),
        (['--devices', '0-1'], {'JOB_ID': 'a b'}, 'JOB_ID=a b'),
        (['--devices', '2-5'], {}, '0-3 and 4-7 are two rings'),
        (['--rank_table', 'x.json'], {}, 'error: rank table x.json: No such file or'),
        ([], {}, '--devices is missing: say which devices'),
    ],
)
def test_contradictions_and_mistakes_are_one_line(launch, flags, variables, words):
    status, _, err = launch(
        '--device', 'npu', *flags, code='raise SystemExit("must not start")', **variables
    ).finish()
    assert status == 2
    assert err.startswith('error: ') and err.count('\n') == 1 and words in err


def test_other_devices_than_the_table_has(launch, tmp_path):
    status, _, err = launch(
        '--device',
        'npu',
        '--devices',
        '0-1',
        '--rank_table',
        table(tmp_path / 'mine.json'),
        code='',
    ).finish()
    assert status == 2 and '--devices 0,1, but' in err and 'the devices 4,5' in err


def test_settings_that_agree_are_no_contradiction(launch, tmp_path):
    assert (
        launch(
            '--device',
            'npu',
            '--devices',
            '0',
            code=REPORT,
            RANK_ID='0',
            RANK_SIZE='1',
            DEVICE_ID='0',
        ).finish()[0]
        == 0
    )


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
    (tmp_path / 'nvidia-smi').write_text(
        '#!/bin/sh\n' + ''.join('echo "GPU %d: Tesla"\n' % index for index in range(smi))
    )
    (tmp_path / 'nvidia-smi').chmod(0o755)
    name, why = launcher.choose(argparse.Namespace(device=device, command=['run.py'] + command))
    assert name == expected[0] and expected[1] in why


def test_npu_bridge_is_found_without_importing_it(launch, tmp_path):
    (tmp_path / 'npu_bridge').mkdir()
    (tmp_path / 'npu_bridge' / '__init__.py').write_text('raise SystemExit("imported")')
    status, out, _ = launch('--devices', '0', code='').finish()
    assert (
        status == 0 and 'npu (npu_bridge is installed)' in out
    )  # python -m has the current folder on its path


def test_two_different_devices_are_refused(launch):
    process = subprocess.run(
        [
            sys.executable,
            '-m',
            'hccl.launch',
            '--device',
            'npu',
            '--devices',
            '0',
            '--',
            'x',
            '--device',
            'cpu',
        ],
        env={'PYTHONPATH': str(ROOT)},
        stderr=subprocess.PIPE,
    )
    assert (
        process.returncode == 2
        and b'--device npu for the launcher and --device cpu in the command' in process.stderr
    )


@pytest.mark.parametrize(
    'words, expected',
    [([], 'no command'), (['--', 'no-such-program'], 'no-such-program does not start')],
)
def test_commands_that_do_not_start(tmp_path, words, expected):
    process = subprocess.run(
        [sys.executable, '-m', 'hccl.launch', '--device', 'cpu', '--devices', '0'] + words,
        cwd=str(tmp_path),
        env={'PYTHONPATH': str(ROOT)},
        stderr=subprocess.PIPE,
    )
    assert (
        process.returncode == 2
        and process.stderr.startswith(b'error: ')
        and expected.encode() in process.stderr
    )


def test_npu_flags_elsewhere(launch, tmp_path):
    status, _, err = launch(
        '--device', 'cpu', '--devices', '0', '--server_index', '0', code=''
    ).finish()
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
