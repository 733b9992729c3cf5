"""The stand-in for the Ascend tool chain (test/ascend_sim): most of it in one process of its own,
since importing it changes TensorFlow.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SIM = HERE.parent / 'ascend_sim'


def environment(tmp_path, **more):
    """The environment of a process with the stand-in on its path, and nothing of another job's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(
            (
                'RANK_',
                'DEVICE_',
                'ASCEND_',
                'CM_',
                'HCCL_',
                'HOROVOD_',
                'PYTEST_',
                'JOB_ID',
                'TF_CONFIG',
            )
        )
    }
    return dict(
        kept,
        PYTHONPATH=str(SIM / 'python'),
        ASCEND_SIM_DIR=str(tmp_path / 'sim'),
        TF_CPP_MIN_LOG_LEVEL='3',
        JOB_ID='1',
        PYTHONDONTWRITEBYTECODE='1',
        CUDA_VISIBLE_DEVICES='',
        **{name: str(value) for name, value in more.items()},
    )


@pytest.mark.slow
def test_everything_that_one_process_can_check(tmp_path):
    result = subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            '-m',
            'pytest',
            '-q',
            '--tb=short',
            '-c',
            os.devnull,
            '--rootdir',
            str(HERE / 'checks'),
            '--import-mode=importlib',
            '-p',
            'no:cacheprovider',
            '-p',
            'no:faulthandler',
            '-p',
            'no:xdist',
            '-o',
            'python_files=check_*.py',
            '-o',
            'python_functions=check_*',
            str(HERE / 'checks'),
        ],
        env=environment(tmp_path),
        cwd=str(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    assert result.returncode == 0, result.stdout[-8000:]
    assert ' passed' in result.stdout


SIGNATURES = """
import inspect, json, sys
import npu_bridge
from npu_bridge.npu_init import *
from npu_bridge.estimator.npu import npu_config, npu_hook, npu_plugin
modules = json.load(open(sys.argv[1]))
api = dict(modules['master'])
wrong = []
for module, names in api.items():
    names = dict(names, **modules[sys.argv[2]].get(module, {}) if sys.argv[2] != 'master' else {})
    found = __import__(module, fromlist=['x'])
    for name, spec in names.items():
        if spec is None:
            if hasattr(found, name):
                wrong.append('%s.%s exists' % (module, name))
            continue
        is_class = isinstance(spec, dict)
        expected = spec['__init__'] if is_class else spec
        if is_class and not expected:
            continue
        real = inspect.signature(getattr(found, name).__init__ if is_class else getattr(found, name)).parameters
        real = [[item.name] if item.default is item.empty else [item.name, item.default] for item in real.values()][is_class:]
        text = lambda value: json.dumps(value, default=str).replace('"NpuExecutePlacement.ALL"', 'X')
        if text(real) != text(expected):
            wrong.append('%s.%s: %s' % (module, name, real))
try:
    NPURunConfig(no_such_option=1)
except TypeError as error:
    refused = str(error)
fresh, given = npu_config_proto(), tf.ConfigProto()
given.graph_options.rewrite_options.custom_optimizers.add().name = 'NpuOptimizer'
npu_config_proto(given)
protos = [[len(item.graph_options.rewrite_options.custom_optimizers), item.graph_options.rewrite_options.remapping,
           item.graph_options.rewrite_options.memory_optimization, item.allow_soft_placement] for item in (fresh, given)]
os.environ['RANK_ID'] = 'npu8p'
try:
    npu_hooks_append([])
except ValueError as error:
    protos.append(str(error))
print(json.dumps({'wrong': wrong, 'protos': protos, 'refused': refused, 'config': sorted(inspect.signature(NPURunConfig.__init__).parameters),
                  'hcom_parallel': inspect.signature(NPURunConfig.__init__).parameters['hcom_parallel'].default,
                  'wraps_sessions': 'npu' in tf.Session.__init__.__module__,
                  'ranksize': hasattr(util, 'get_ranksize'), 'inf_nan': hasattr(npu_plugin, 'is_inf_nan_enabled')}))
"""


@pytest.mark.slow
def test_each_release_has_its_own_signatures(tmp_path):
    """Against the table of signatures, and against a few facts that are written here."""
    releases = ['r1.5.0', 'r1.7.0', 'r1.10.0', 'master']
    processes = [
        subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', SIGNATURES, str(SIM / 'api.json'), release],
            cwd=str(tmp_path),
            env=environment(tmp_path, ASCEND_SIM_RELEASE=release),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )
        for release in releases
    ]
    found = {}
    for release, process in zip(releases, processes):
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert out.count('\n') == 1 and not err.strip(), 'importing npu_bridge printed something'
        found[release] = json.loads(out)
        assert found[release]['wrong'] == [], release
        assert "unexpected keyword argument 'no_such_option'" in found[release]['refused']
        # [optimizers, remapping, memory_optimization, soft placement]; 2 is OFF. Who adds the
        # NpuOptimizer himself keeps memory_optimization.
        assert found[release]['protos'] == [
            [1, 2, 2, True],
            [1, 2, 0, True],
            "invalid literal for int() with base 10: 'npu8p'",
        ]
    has = {release: set(item['config']) for release, item in found.items()}
    assert {'aoe_mode', 'modify_mixlist'} <= has['r1.5.0'] and 'hccl_timeout' not in has['r1.5.0']
    assert {'device_type', 'hccl_timeout', 'op_wait_timeout', 'op_execute_timeout'} <= has[
        'r1.7.0'
    ] and 'soc_config' not in has['r1.7.0']
    assert {'topo_sorting_mode', 'jit_compile', 'memory_config'} <= has[
        'r1.10.0'
    ] and 'precision_mode_v2' not in has['r1.10.0']
    assert {'precision_mode_v2', 'ac_parallel_enable', 'deterministic'} <= has[
        'master'
    ] and 'auto_tune_mode' not in has['master']
    assert [found[release]['hcom_parallel'] for release in releases] == [False, False, True, True]
    assert [found[release]['wraps_sessions'] for release in releases] == [False, False, True, True]
    assert [found[release]['ranksize'] for release in releases] == [False, False, False, True]
    assert [found[release]['inf_nan'] for release in releases] == [False, False, False, True]


def ranks(tmp_path, script, count, **more):
    """Runs a script on `count` ranks; returns what each printed in its last line, as JSON."""
    path = tmp_path / 'rank_table.json'
    path.write_text(
        json.dumps(
            {
                'version': '1.0',
                'status': 'completed',
                'server_count': '1',
                'server_list': [
                    {
                        'server_id': 'here',
                        'device': [
                            {
                                'device_id': str(rank),
                                'device_ip': '192.168.10%d.101' % rank,
                                'rank_id': str(rank),
                            }
                            for rank in range(count)
                        ],
                    }
                ],
            }
        )
    )
    processes = []
    for rank in range(count):
        own = {'RANK_ID': rank, 'RANK_SIZE': count, 'RANK_TABLE_FILE': path, 'DEVICE_ID': rank}
        processes.append(
            subprocess.Popen(
                [sys.executable, '-W', 'ignore', str(HERE / script), str(tmp_path)],
                cwd=str(tmp_path),
                env=environment(tmp_path, OMP_NUM_THREADS=1, **own, **more),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                universal_newlines=True,
            )
        )
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * count, results
    return [json.loads(out.strip().split('\n')[-1]) for out, _ in results]


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(
    importlib.util.find_spec('horovod') is None, reason='ranks are joined by Horovod'
)
def test_two_ranks(tmp_path):
    """Equal weights on equal terms; an overflow on one rank skips the step on both, and only with
    is_distributed.
    """
    first, second = ranks(tmp_path, 'two_ranks.py', 2, ASCEND_SIM_OVERFLOW='2:1')
    assert (first['ranks'], second['ranks']) == ([0, 2, 0, 2], [1, 2, 1, 2])
    assert (
        first['own'] != second['own'] and first['given'] == second['given'] == first['own']
    )  # initialised differently, then broadcast
    assert first['together']['weights'] == second['together']['weights']
    assert first['together']['seen'] == [3, 7, 11]  # one of the first four steps was skipped
    assert (
        first['together']['statistics'] != second['together']['statistics']
    )  # not broadcast, not averaged
    assert (first['diverged']['step'], second['diverged']['step']) == (4, 3)
    assert first['diverged']['weights'] != second['diverged']['weights']
    assert first['mean'] == second['mean'] == [1.5, 1.5] and first['gathered'] == second[
        'gathered'
    ] == [[1.0], [2.0]]
    assert first['max'] == second['max'] == 2 and (first['scattered'], second['scattered']) == (
        [3.0],
        [3.0],
    )
    assert 'not initialised' in first['after']


def test_command_line_tools():
    def run(*command, **more):
        return subprocess.run(
            [str(SIM / 'bin' / command[0])] + list(command[1:]),
            env=dict(os.environ, **more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )

    info = run('npu-smi', 'info', ASCEND_SIM_DEVICES='4', ASCEND_SIM_UNHEALTHY='2').stdout
    rows = [line.split('|')[1:3] for line in info.split('\n') if '910A' in line]
    assert [(name.split(), health.strip()) for name, health in rows] == [
        (['0', '910A'], 'OK'),
        (['1', '910A'], 'OK'),
        (['2', '910A'], 'Alarm'),
        (['3', '910A'], 'OK'),
    ]
    assert len({len(line) for line in info.strip().split('\n')}) == 1
    addresses = [
        run('hccn_tool', '-i', str(device), '-ip', '-g').stdout.split('\n')[0].split(':')[1]
        for device in range(8)
    ]
    assert addresses == [
        '192.168.%d.%d' % (100 + device % 4, 101 if device < 4 else 100) for device in range(8)
    ]
    assert (
        run('hccn_tool', '-i', '8', '-ip', '-g').returncode == 1
        and run('npu-smi', 'top').returncode == 1
    )
