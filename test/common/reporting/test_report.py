"""The report: its numbers are those of the files, its pictures show something, and half a run does
not stop it.
"""

import json
import pathlib
import re
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
import yaml
from example_runs import (
    EVAL,
    OFFLINE,
    RUN,
    evaluation,
    rows_of,
    train,
    whole_run,
    write_lines,
    write_offline,
)

from common import report as report_command
from common.errors import UserError
from common.reporting import report
from common.reporting.run_folder import RunFolder


def section(text, heading):
    return text.split('## ' + heading + '\n')[1].split('\n## ')[0]


def assert_pictures(folder, names, empty=()):
    """The report shows these pictures and no others, and each has data in the colour of data, but
    for the empty ones.
    """
    text = (folder / 'report.md').read_text()
    shown = re.findall(r'!\[.+\]\(plots/(.+)\.png\)', text)
    assert shown == names
    assert sorted(path.name for path in (folder / 'plots').iterdir()) == sorted(
        name + '.png' for name in names
    )
    for name in names:
        pixels = matplotlib.image.imread(str(folder / 'plots' / (name + '.png')))[..., :3]
        blue = (pixels[..., 2] - pixels[..., 0] > 0.25).sum()
        assert (blue > 10) == (name not in empty), name  # one marker is some 30 pixels


def test_numbers_come_from_the_files(tmp_path):
    whole_run(tmp_path)
    path = report.write(tmp_path)
    assert path == tmp_path / 'report.md'
    page = tmp_path / 'report.html'
    assert page.stat().st_mtime_ns <= path.stat().st_mtime_ns
    text = path.read_text()
    measured = rows_of(section(text, 'Measured here'))
    assert measured[''] == ['top-1', 'top-5', 'loss', 'images', 'images/s']
    online = measured['online, checkpoint wideresnet.ckpt']
    assert online == ['91.23 %', '98.77 %', '0.4322', '360', '301.2']
    offline = measured['offline, .onnx, checkpoint wideresnet.ckpt']
    assert offline == ['90.96 %', '98.77 %', '0.4322', '360', '81.7']
    assert '1 x cpu, started 2020-09-13 12:26 UTC; python 3.7.16, tensorflow 1.15.0' in text
    training = rows_of(section(text, 'Training'))
    assert training['state'] == ['finished at step 440 of 440']
    assert training['parameters'] == ['691,674']
    assert training['duration'] == ['1:02:05 (h:mm:ss)']
    assert training['training throughput'] == ['229.9 images/s']
    assert training['best top-1 while training'] == ['93.21 % at step 330']
    offline = rows_of(section(text, 'Offline inference'))
    assert offline['same prediction as online'] == ['99.722 % of the images']
    assert offline['largest difference of a logit'] == ['2.5e-05']
    latency = 'mean 12.34 ms, p50 11.87 ms, p90 14.56 ms, p99 19.01 ms'
    assert offline['latency of a batch of 4'] == [latency]
    assert offline['size of the .pb'] == ['2.81 MB']
    assert_pictures(tmp_path, ['training', 'evaluation', 'throughput', 'confusion'])


def test_published_numbers_are_told_apart(tmp_path, text_only):
    whole_run(tmp_path)
    config = yaml.safe_load((tmp_path / 'config.yaml').read_text())
    config['published']['third'] = {'top1': 0.5, 'epochs': 12}
    (tmp_path / 'config.yaml').write_text(yaml.safe_dump(config))
    text = report.write(tmp_path).read_text()
    published = rows_of(section(text, 'Published, not measured here'))
    assert published == {
        '': ['top-1', 'images/s', 'epochs'],
        'paper, median of 5': ['96.11 %', '', ''],
        'a port': ['81.45 %', '35.0', ''],
        'third': ['50.00 %', '', '12'],
    }
    assert '96.11' not in section(text, 'Measured here')


def test_warnings_of_the_training_are_shown(tmp_path, text_only):
    warning = "global batch 1024 instead of the recipe's 128; learning_rate stays 0.1"
    write_lines(tmp_path, [dict(RUN, warnings=[warning, 'another']), train(10)])
    text = report.write(tmp_path).read_text()
    assert rows_of(section(text, 'Training'))['warnings'] == [warning + '; another']


def test_offline_run_on_other_images_is_compared_with_the_same_images(tmp_path, text_only):
    whole_run(tmp_path)
    results = dict(images=100, online={'top1': 0.8}, offline={'top1': 0.79})
    write_offline(tmp_path, dict(OFFLINE, backend='pb', **results))
    text = report.write(tmp_path).read_text()
    measured = rows_of(section(text, 'Measured here'))
    assert measured['online, on the images of the offline run'] == ['80.00 %', '', '', '100', '']
    offline = measured['offline, .pb, checkpoint wideresnet.ckpt']
    assert offline == ['79.00 %', '', '', '100', '81.7']


def test_every_backend_is_shown_wherever_its_results_lie(tmp_path, text_only):
    whole_run(tmp_path)
    write_offline(
        tmp_path / 'offline',
        dict(
            OFFLINE,
            backend='pb',
            online={'top1': 0.91234, 'loss': 0.432170001},
            batch_size=1,
            software={'tensorflow': '1.15.0', 'cores': '8'},
        ),
    )
    text = report.write(tmp_path).read_text()
    measured = rows_of(section(text, 'Measured here'))
    shown = ['online', 'offline, .onnx', 'offline, .pb']  # a rounding error is no other result
    assert list(measured)[1:] == [name + ', checkpoint wideresnet.ckpt' for name in shown]
    offline = rows_of(section(text, 'Offline inference'))
    assert offline[''] == ['.onnx', '.pb']
    assert offline['same prediction as online'] == ['99.722 % of the images'] * 2
    assert [bool(cell) for cell in offline['latency of a batch of 1']] == [False, True]
    assert offline['measured with'] == ['', 'tensorflow 1.15.0, cores 8']
    write_offline(tmp_path / 'alone' / 'offline', OFFLINE)
    assert 'largest difference of a logit' in report.write(tmp_path / 'alone').read_text()


def test_confusions_are_named(tmp_path, text_only):
    whole_run(tmp_path)
    names = 'airplane automobile bird cat deer dog frog horse ship truck'.split()
    (tmp_path / 'eval.json').write_text(json.dumps(dict(EVAL, classes=names)))
    errors = section(report.write(tmp_path).read_text(), 'Where it errs')
    assert rows_of(errors)['cat'] == ['dog', '11', '26.83 %']
    assert errors.count('%') == 1  # one confusion


def test_hundred_classes(tmp_path):
    whole_run(tmp_path, classes=100)
    errors = section(report.write(tmp_path).read_text(), 'Where it errs')
    assert rows_of(errors)['3'] == ['5', '11', '26.83 %']
    assert_pictures(tmp_path, ['training', 'evaluation', 'throughput', 'confusion'])


def test_segmentation(tmp_path):
    result = {'model': 'resnest', 'checkpoint': 'x', 'miou': 0.66451, 'images': 500}
    result['iou'] = {'road': 0.98, 'sky': 0.9, 'train': None}
    (tmp_path / 'eval.json').write_text(json.dumps(result))
    rows_of_run = [train(10), dict(evaluation(22, 0), miou=0.6)]
    rows_of_run += [dict(evaluation(44, 0), miou=0.66451)]
    for row in rows_of_run[1:]:
        del row['top1'], row['top5']
    write_lines(tmp_path, rows_of_run)
    text = report.write(tmp_path).read_text()
    assert rows_of(section(text, 'Measured here'))['online, checkpoint x'] == ['66.45 %', '500']
    assert rows_of(section(text, 'Training'))['best mIoU while training'] == ['66.45 % at step 44']
    assert_pictures(tmp_path, ['training', 'evaluation', 'throughput', 'iou'])


def test_a_run_that_has_just_begun(tmp_path):
    write_lines(
        tmp_path, [RUN, train(10), evaluation(22, 0.25)], tail='{"kind": "train", "step": 2'
    )
    text = report.write(tmp_path).read_text()
    assert rows_of(section(text, 'Training'))['state'] == ['not finished at step 22 of 440']
    measured = rows_of(section(text, 'Measured here'))
    assert measured['online, while training, step 22'][0] == '25.00 %'
    assert 'Note' not in text and 'Published' not in text and 'Offline' not in text
    assert_pictures(tmp_path, ['training', 'evaluation', 'throughput'])


def test_a_resumed_run(tmp_path):
    first = [RUN] + [train(step) for step in (10, 20, 30)]
    first += [train(step, superseded=True) for step in (40, 50)]
    first += [dict(evaluation(44, 0.99), superseded=True)]
    second = [dict(RUN, resumed_from=30, time=1600090000.0)]
    second += [train(step, time=1600090000.0 + step - 30, loss=1.0) for step in (40, 50, 60)]
    write_lines(tmp_path, first + second)
    run = RunFolder(tmp_path)
    np.testing.assert_array_equal(run.column('train', 'step'), [10, 20, 30, 40, 50, 60])
    np.testing.assert_array_equal(run.column('train', 'loss')[3:], [1, 1, 1])
    assert run.rows['eval'] == []  # its weights were lost
    # 50 s until the first session's end (its evaluation came last, at 44.5 s); the day between does
    # not count
    assert run.column('train', 'minutes')[-1] == pytest.approx((44.5 + 30) / 60)
    text = report.write(tmp_path).read_text()
    assert rows_of(section(text, 'Training'))['sessions'] == ['2, resumed at step 30']
    assert_pictures(tmp_path, ['training', 'throughput'])


def test_not_a_number(tmp_path):
    rows = [
        RUN,
        train(10),
        train(20, loss=float('nan')),
        train(30, loss=None, images_per_second=None),
        dict(evaluation(33, float('nan')), loss=float('inf')),
    ]
    write_lines(tmp_path, rows)
    (tmp_path / 'eval.json').write_text('{"model": "wideresnet", "top1": NaN, "loss": Infinity}')
    text = report.write(tmp_path).read_text()
    assert 'not finite in 2 of 3 logged steps, first at step 20' in text
    assert rows_of(section(text, 'Measured here'))['online, checkpoint unknown'] == ['NaN', 'inf']
    assert_pictures(tmp_path, ['training', 'evaluation', 'throughput'], empty=['evaluation'])


def test_unreadable_files_are_named_and_left_out(tmp_path):
    whole_run(tmp_path)
    (tmp_path / 'eval.json').write_text('[1, 2]')
    (tmp_path / 'offline.json').write_text('{')
    (tmp_path / 'config.yaml').write_text('published: 3')
    (tmp_path / 'confusion.npy').write_bytes(b'nonsense')
    lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
    (tmp_path / 'metrics.jsonl').write_text('\n'.join(lines[:5] + ['<<<<', '3'] + lines[5:]))
    text = report.write(tmp_path).read_text()
    for note in (
        'eval.json cannot be read (it does not hold a mapping)',
        'offline.json cannot be read',
        'published in config.yaml is not of the form',
        'confusion.npy cannot be read',
        '2 line(s) of metrics.jsonl cannot be read',
    ):
        assert '**Note.** ' + note in text
    measured = rows_of(section(text, 'Measured here'))
    assert measured['online, while training, step 440'][0] == '91.23 %'
    assert_pictures(tmp_path, ['training', 'evaluation', 'throughput'])


def test_only_an_evaluation(tmp_path):
    (tmp_path / 'eval.json').write_text(json.dumps(EVAL))
    assert '91.23 %' in report.write(tmp_path).read_text()
    assert not (tmp_path / 'plots').exists()


def test_folders_that_are_no_run(tmp_path):
    with pytest.raises(UserError, match='missing is not a folder; give the --output_path of a run'):
        report.write(tmp_path / 'missing')
    (tmp_path / 'notes.txt').write_text('x')
    with pytest.raises(UserError, match='holds no results'):
        report.write(tmp_path)


def test_command(tmp_path):
    whole_run(tmp_path)
    done = subprocess.run(
        [sys.executable, '-m', 'common.report', str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=str(pathlib.Path(__file__).resolve().parents[3]),
    )
    assert (done.returncode, done.stdout.decode()) == (0, str(tmp_path / 'report.md') + '\n')
    with pytest.raises(SystemExit) as exit_info:
        report_command.main([str(tmp_path / 'nowhere')])
    assert exit_info.value.code == 2
