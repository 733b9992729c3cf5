"""The scripts that ModelZoo's checks run: their flags, and the lines that they look for."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from hccl import modelzoo

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINES = [
    'Network',
    'RankSize',
    'BatchSize',
    'DeviceType',
    'CaseName',
    'ActualFPS',
    'TrainAccuracy',
    'TrainingTime',
    'ActualLoss',
    'E2ETrainingTime',
]


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """trained(word, ...): the words that the launcher gets, which writes what a run does."""

    def launch(words):
        launch.words = words
        output = pathlib.Path(words[words.index('--output_path') + 1])
        output.mkdir()
        rows = [dict(kind='run', ranks=2, global_batch=16)]
        rows += [dict(kind='train', step=2, loss=9.0, superseded=True)]  # before a resume
        rows += [dict(kind='train', step=step, loss=3.0 - step) for step in (1, 2)]
        rows += [dict(kind='end', images_per_second=400.0)]
        (output / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, rows)) + '\n{"ki')
        (output / 'eval.json').write_text(json.dumps(dict(loss=1.0, top1=0.25)))
        (output.parent / 'rank_0.log').write_text('the log')
        raise SystemExit(launch.status)

    launch.status = 0
    monkeypatch.setattr(modelzoo.launch, 'main', launch)
    monkeypatch.chdir(tmp_path)
    for name in ('RANK_ID', 'RANK_SIZE', 'DEVICE_ID', 'ASCEND_DEVICE_ID', 'DEVICES'):
        monkeypatch.delenv(name, raising=False)

    def run(*words, status=0):
        launch.status = status
        modelzoo.main(list(words))
        return launch.words

    return run


def test_results_are_printed_and_kept_as_there(trained, tmp_path, capsys):
    trained('xception', 'full', '1', '--data_path=D')
    out = capsys.readouterr().out
    assert 'Final Performance images/sec : 400.0\nFinal Train Accuracy : 0.25\nE2E Training' in out
    case = 'Xception_ID0178_for_TensorFlow_bs8_2p_acc'
    folder = tmp_path / 'output' / '0'
    lines = (folder / (case + '.log')).read_text().splitlines()
    assert [line.split(' = ')[0] for line in lines] == LINES and set(lines) < set(out.splitlines())
    assert 'CaseName = ' + case in lines and 'TrainingTime = 40.00' in lines
    assert 'ActualLoss = 1.0' in lines
    assert (folder / ('train_%s_loss.txt' % case)).read_text() == '2.0\n1.0\n'
    assert (folder / 'train_0.log').read_text() == 'the log'


def test_flags_become_those_of_the_run_script(trained, tmp_path):
    words = trained(
        *'resnest performance 8 --data_path=D --precision_mode=force_fp32 --over_dump=True'.split(),
        *'--data_dump_flag=False --profiling True --batch_size 4'.split(),
    )
    output = str(tmp_path / 'output' / '0')
    script = str(ROOT / 'resnest_tf' / 'run_resnest.py')
    assert words == (
        ['--devices', '0-7', '--log_dir', output, '--', sys.executable, script]
        + ['--do_train', 'True', '--data_path', 'D', '--output_path', output + '/ckpt']
        + modelzoo.PERFORMANCE
        + ['--precision_mode', 'force_fp32', '--over_dump', output + '/overflow_dump']
        + ['--profiling', output + '/profiling', '--batch_size', '4']
    )


def test_dumps_of_data(trained, tmp_path):
    words = trained('wideresnet', 'full', '1', '--data_path', 'D', '--data_dump_flag=True')
    folder = str(tmp_path / 'output' / '0' / 'data_dump')
    assert words[-4:] == ['--data_dump', folder, '--dump_step', '10']


def test_the_device_of_the_environment_and_a_second_start(trained, tmp_path, monkeypatch):
    for _ in range(2):
        monkeypatch.setenv('ASCEND_DEVICE_ID', '3')
        monkeypatch.setenv('RANK_SIZE', '1')
        assert trained('xception', 'full', '1', '--data_path=D')[1] == '3'
        assert 'RANK_SIZE' not in os.environ and 'ASCEND_DEVICE_ID' not in os.environ
    names = sorted(path.name for path in (tmp_path / 'output').iterdir())
    assert names[0] == '3' and re.fullmatch(r'3\.\d+', names[1]) and len(names) == 2


def test_a_failure_ends_with_its_status_and_no_figures(trained, capsys):
    with pytest.raises(SystemExit) as end:
        trained('xception', 'full', '1', '--data_path=D', status=7)
    assert end.value.code == 7 and 'Final' not in capsys.readouterr().out


def test_no_data_path(trained, capsys):
    with pytest.raises(SystemExit) as end:
        trained('xception', 'full', '1')
    assert end.value.code == 2 and '--data_path is missing' in capsys.readouterr().err


@pytest.mark.parametrize('model', ['wideresnet', 'xception', 'resnest'])
def test_files_of_every_model(model):
    folder = ROOT / (model + '_tf')
    for kind in ('full', 'performance'):
        for devices in (1, 8):
            path = folder / 'test' / ('train_%s_%dp.sh' % (kind, devices))
            words = ' %s %s %d "$@"' % (model, kind, devices)
            assert os.access(str(path), os.X_OK) and words in path.read_text()
    assert (folder / 'requirements.txt').read_text() == '-r ../requirements.txt\n'
    keys = [line.split(':')[0] for line in (folder / 'modelzoo_level.txt').read_text().split()]
    assert {'FuncStatus', 'PerfStatus', 'PrecisionStatus'} < set(keys)


@pytest.mark.slow
def test_a_real_run(recipe, data, tmp_path):
    script = ROOT / 'wideresnet_tf' / 'test' / 'train_performance_1p.sh'
    words = ['--data_path=%s' % data, '--config', str(recipe(epochs=1)), '--steps', '4']
    out = subprocess.check_output(
        [str(script), *words, '--log_interval', '2', '--device', 'cpu'],
        cwd=str(tmp_path),
        env=dict(os.environ, DEVICES='0'),
    ).decode()
    rate = re.search(r'^Final Performance images/sec : ([\d.]+)$', out, re.M)
    accuracy = re.search(r'^Final Train Accuracy : (0\.\d+|1\.0|0\.0)$', out, re.M)
    assert rate and float(rate.group(1)) > 0 and accuracy
    assert re.search(r'^CaseName = WideResNet_ID0175_for_TensorFlow_bs\d+_1p_perf$', out, re.M)
