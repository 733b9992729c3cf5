"""The stand-in for the TF adapter and HCCL (test/ascend_sim): in a process of its own, since
importing it changes TensorFlow. Two ranks are tested with the product, in common/devices.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SIM = HERE.parent / 'ascend_sim'


def start(tmp_path, *words, **more):
    """A process with the stand-in on its path, and nothing of another job's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith('PYTEST_')}
    return subprocess.Popen(
        [str(SIM / 'env.sh'), sys.executable, '-W', 'ignore'] + [str(word) for word in words],
        cwd=str(tmp_path),
        env=dict(
            kept,
            ASCEND_SIM_DIR=str(tmp_path / 'sim'),
            TF_CPP_MIN_LOG_LEVEL='3',
            CUDA_VISIBLE_DEVICES='',
            **more,
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
    )


@pytest.mark.slow
def test_everything_that_one_process_can_check(tmp_path):
    flags = (
        '-m pytest -q --tb=short --import-mode=importlib -p no:cacheprovider -p no:faulthandler'
        ' -p no:xdist -o python_files=check_*.py -o python_functions=check_*'
    ).split()
    checks = HERE / 'checks'
    process = start(tmp_path, *flags, '-c', os.devnull, '--rootdir', checks, checks)
    out, _ = process.communicate()
    assert process.returncode == 0 and ' passed' in out, out[-8000:]


# Each release is a fork after the import of TensorFlow, which takes seconds.
SIGNATURES = """
import inspect, json, os, sys
import tensorflow

for release in sys.argv[1:]:
    if os.fork():
        assert os.wait()[1] == 0, release
        continue
    os.environ['ASCEND_SIM_RELEASE'] = release
    from npu_bridge.estimator.npu.npu_config import NPURunConfig
    from npu_bridge.estimator.npu.npu_loss_scale_optimizer import NPULossScaleOptimizer
    from npu_bridge.hccl import hccl_ops

    try:
        NPURunConfig(no_such_option=1)
    except TypeError as error:
        refused = str(error)
    parameters = inspect.signature(NPURunConfig.__init__).parameters
    print(json.dumps([
        {name: item.default for name, item in parameters.items() if name != 'self'},
        list(inspect.signature(hccl_ops.allgather).parameters), refused]), flush=True)
    os._exit(0)
"""
# What the adapter's history says: release -> options that it brought, or (with a minus) took away.
SINCE = {
    'r1.5.0': 'aoe_mode modify_mixlist op_precision_mode -hccl_timeout -precision_mode_v2',
    'r1.7.0': 'device_type hccl_timeout op_wait_timeout op_execute_timeout -soc_config',
    'r1.10.0': 'topo_sorting_mode jit_compile memory_config -precision_mode_v2',
    'r1.12.0': 'deterministic -jit_compile -precision_mode_v2',
    'r1.13.0': 'precision_mode_v2 jit_compile -ac_parallel_enable',
    'master': 'precision_mode_v2 ac_parallel_enable deterministic -auto_tune_mode',
}


@pytest.mark.slow
def test_each_release_has_its_own_signatures(tmp_path):
    process = start(tmp_path, '-c', SIGNATURES, *SINCE)
    out, err = process.communicate()
    assert process.returncode == 0, err
    lines = out.splitlines()
    assert len(lines) == len(SINCE) and not err.strip(), 'importing npu_bridge printed something'
    defaults = {}
    for release, line in zip(SINCE, lines):
        defaults[release], allgather, refused = json.loads(line)
        assert "unexpected keyword argument 'no_such_option'" in refused
        assert list(defaults[release])[:2] == ['iterations_per_loop', 'profiling_config']
        assert ('fusion' in allgather) == (release == 'master')
        for word in SINCE[release].split():
            assert (word.lstrip('-') in defaults[release]) == (word[0] != '-'), (release, word)
    parallel = [defaults[release]['hcom_parallel'] for release in SINCE]
    assert parallel == [False, False, True, True, True, True]
    dumps = [defaults[release]['enable_exception_dump'] for release in SINCE]
    assert dumps == [0, 0, 0, 0, 0, 2]


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
        ([str(device), '910A'], 'Alarm' if device == 2 else 'OK') for device in range(4)
    ]
    assert len({len(line) for line in info.strip().split('\n')}) == 1
    printed = [run('hccn_tool', '-i', str(device), '-ip', '-g').stdout for device in range(8)]
    assert [text.split('\n')[0] for text in printed] == [
        'ipaddr:192.168.%d.%d' % (100 + device % 4, 101 if device < 4 else 100)
        for device in range(8)
    ]
    assert run('hccn_tool', '-i', '8', '-ip', '-g').returncode == 1


def test_env_can_be_sourced_and_run(tmp_path):
    show = 'echo $PYTHONPATH $PATH $RANK_ID'
    environment = dict(os.environ, RANK_ID='3', PYTHONPATH='mine')
    for words, rank in (
        (['bash', '-c', '. %s; %s' % (SIM / 'env.sh', show)], ['3']),
        ([str(SIM / 'env.sh'), 'bash', '-c', show], []),
    ):
        out = subprocess.run(
            words, env=environment, stdout=subprocess.PIPE, universal_newlines=True
        ).stdout.split()
        assert out[0] == '%s:%s:mine' % (HERE.parent.parent, SIM / 'python')
        assert out[1].startswith('%s:' % (SIM / 'bin')) and out[2:] == rank
