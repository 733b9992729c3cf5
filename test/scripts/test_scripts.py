"""The scripts that call setup.sh: the quick start, the tests, the continuous integration."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_run_tests_checks_the_source_first_and_goes_on_without_horovod(installed):
    status, out, err = installed.run('run_tests.sh', '-k', 'two words', OMP_NUM_THREADS='1')
    assert status == 0 and 'needs g++ and make' in err and 'skipped' in out
    steps = [re.match(r'python (?:-m |\.venv/bin/)(\w+)', call) for call in installed.calls]
    names = [step.group(1) for step in steps if step]
    assert names == ['ruff', 'ruff', 'codespell', 'mypy', 'pytest']
    cores = min(4, len(os.sched_getaffinity(0)))
    expected = r'python -m pytest -n %d .*-k two words\|PYTHONPATH=%s$'
    assert re.match(expected % (cores, re.escape(str(installed.path))), installed.calls[-1])


@pytest.mark.parametrize('broken', ['ruff format', 'ruff check', 'codespell', 'mypy', '-m pytest'])
def test_run_tests_fails_where_a_check_or_a_test_does(installed, broken):
    assert installed.run('run_tests.sh', FAIL_AT=broken, FAIL_STATUS='5')[0] == 5
    assert broken in installed.calls[-1]


@pytest.mark.parametrize('line', ['ruff format', 'ruff check', 'codespell', 'mypy'])
def test_a_check_of_the_source_ends_in_a_status(line, tmp_path):
    command = next(x for x in (ROOT / 'run_tests.sh').read_text().splitlines() if line in x)
    for folder in ('common', 'hccl'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / '__init__.py').write_text(
            'x: int =  "%s"\nimport os\n' % ('reci' + 'eve')
        )
    (tmp_path / '.venv/bin').mkdir(parents=True)
    for name in ('python', 'codespell'):
        (tmp_path / '.venv/bin' / name).symlink_to(pathlib.Path(sys.prefix, 'bin', name))
    assert subprocess.call(command, shell=True, cwd=str(tmp_path)) != 0


def test_run_tests_needs_the_packages(copy):
    copy.python('python3.7')
    assert copy.run('run_tests.sh', FAIL_AT='pins.txt')[0] == 1
    assert '-m pytest' not in ' '.join(copy.calls)


@pytest.fixture
def results(installed):
    """What the commands of the quick start, which are fakes here, would have written."""
    out = installed.path / 'runs/quickstart'
    (out / 'offline').mkdir(parents=True)
    (out / 'eval.json').write_text('{"step": 528, "images": 360, "top1": 0.9875}')
    (out / 'offline/offline.json').write_text(
        '{"results": {"pb": {"offline": {"top1": 0.9875}, "equal_predictions": 1, "latency_ms":'
        ' {"p50": 4.25}, "batch_size": 8}}}'
    )
    shutil.copy(installed.env['FAKE_PYTHON'], str(installed.path / '.venv/bin/python'))
    return installed


def test_quickstart_runs_the_steps_in_order(results):
    status, out, err = results.run('quickstart.sh', '--epochs', '1')
    assert status == 0, err
    steps = [
        re.match(r'python (?:-m )?(\S+)', call).group(1)
        for call in results.calls
        if 'runs/quickstart' in call
    ]
    assert steps == [
        'wideresnet_tf.prepare_cifar',
        'wideresnet_tf/run_wideresnet.py',
        'offline_inference.run',
        'offline_inference.run',
        'common.report',
        '-',
    ]
    assert any('--do_train True --epochs 1|' in call for call in results.calls)
    assert 'report      %s/runs/quickstart/report.md\n' % results.path in out
    assert 'checkpoint  top-1 98.75 % of 360 images (step 528)\n' in out
    assert (
        'pb          top-1 98.75 %, the same prediction for 100.00 % of the images, 4.25 ms a batch'
        ' of 8\n' in out
    )
    status, out, _ = results.run('quickstart.sh')
    assert status == 0 and 'rm -r runs/quickstart' in out
    assert 'run_wideresnet' not in ' '.join(results.calls)


def test_fast_quickstart_is_shorter_and_has_its_own_folder(results):
    (results.path / 'runs/quickstart').rename(results.path / 'runs/quickstart_fast')
    status, out, err = results.run('quickstart.sh', '--fast', '--seed', '3')
    assert status == 0 and 'runs/quickstart_fast/report.md' in out, err
    assert any('--do_train True --epochs 2 --seed 3|' in call for call in results.calls)


def test_quickstart_explains_itself_before_it_starts(copy):
    status, out, _ = copy.run('quickstart.sh', '--help')
    assert status == 0 and '--fast' in out and not copy.calls


@pytest.mark.parametrize(
    'broken', ['prepare_cifar', 'run_wideresnet', '--backend pb', 'common.report']
)
def test_quickstart_stops_at_a_step_that_fails(results, broken):
    status, out, _ = results.run('quickstart.sh', FAIL_AT=broken, FAIL_STATUS='2')
    assert status == 2 and 'report.md' not in out and broken in results.calls[-1]
    assert results.run('quickstart.sh')[0] == 0
    assert broken in ' '.join(results.calls)  # it is not taken for done


@pytest.mark.parametrize('quickstart, tests', [(0, 0), (3, 0), (0, 1), (3, 1)])
def test_ci_runs_both_and_fails_with_either(copy, quickstart, tests):
    for name, status, text in (
        ('quickstart.sh', quickstart, 'quick $CI'),
        ('run_tests.sh', tests, '3 passed'),
    ):
        (copy.path / name).write_text('#!/bin/sh\necho %s\nexit %d\n' % (text, status))
    status, out, err = copy.run('.ci/run')
    assert status == int(bool(quickstart or tests))
    assert out == 'quick true\n3 passed\n'
    assert ('quickstart.sh' in err, 'run_tests.sh' in err) == (bool(quickstart), bool(tests))


@pytest.mark.parametrize('name', ['Dockerfile', 'Dockerfile.ascend'])
def test_setup_step_of_the_dockerfiles(copy, tmp_path, name):
    """In a folder with what was copied until then, and nothing else."""
    steps = (ROOT / name).read_text().splitlines()
    setup = next(step for step in steps if step.startswith('RUN ./setup.sh'))
    before = [step.split()[1:-1] for step in steps[: steps.index(setup)] if step[:5] == 'COPY ']
    image = tmp_path / 'image'
    image.mkdir()
    for file in [file for files in before for file in files]:
        shutil.copy(str(ROOT / file), str(image / file))
    for program in ('python3.7', 'g++', 'make'):
        copy.python(program)
    copy.path = image
    status, out, err = copy.run(*setup.split()[1:])
    assert status == 0 and 'ready' in out, err
    assert steps.index('COPY . .') > steps.index(setup)
