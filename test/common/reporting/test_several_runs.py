"""Runs side by side, and results over seeds."""

import json
import pathlib
import shutil
import statistics

import pytest
import yaml
from example_runs import EVAL, read_tables, whole_run

from common import report as command
from common.reporting import compare

ROOT = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture
def runs(tmp_path):
    """Three runs that differ in their seed and their figures."""
    folders = []
    for seed, top1 in enumerate([0.912, 0.92, 0.905]):
        folder = tmp_path / ('digits-seed%d' % seed)
        folder.mkdir()
        whole_run(folder)
        (folder / 'eval.json').write_text(json.dumps(dict(EVAL, top1=top1)))
        change_config(folder, seed=seed, data_path='data', output_path=str(folder))
        folders.append(folder)
    return folders


def change_config(folder, **keys):
    config = yaml.safe_load((folder / 'config.yaml').read_text())
    (folder / 'config.yaml').write_text(yaml.safe_dump(dict(config, **keys)))


def fails(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        command.main([str(word) for word in words])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_compare(runs, tmp_path, capsys):
    change_config(runs[1], learning_rate=0.2)
    output = tmp_path / 'out'
    command.main(['--compare', *map(str, runs), '--output', str(output)])
    assert capsys.readouterr().out == '%s\n' % (output / 'comparison.html')
    figures, training, keys = read_tables((output / 'comparison.md').read_text())
    assert figures['digits-seed1'][:2] == ['92.00 %', '98.77 %']
    assert training['state'] == ['finished at step 440 of 440'] * 3
    assert keys == {
        '': ['digits-seed0', 'digits-seed1', 'digits-seed2'],
        'seed': ['0', '1', '2'],
        'learning_rate': ['', '0.2', ''],
    }
    assert (output / 'comparison.png').stat().st_size > 10000
    assert 'data:image/png;base64,' in (output / 'comparison.html').read_text()


def test_runs_of_different_models_and_one_without_training(runs, tmp_path):
    (runs[0] / 'eval.json').write_text(json.dumps({'model': 'resnest', 'miou': 0.7}))
    for name in ('metrics.jsonl', 'config.yaml'):
        (runs[0] / name).unlink()
    output = compare.write([str(runs[0]), str(runs[1])], str(tmp_path))
    assert read_tables(output.with_suffix('.md').read_text())[0][''][:2] == ['top-1', 'mIoU']


def test_labels_tell_folders_apart(tmp_path):
    assert compare.labels(['a/x', 'b/x', 'b/y']) == ['a/x', 'b/x', 'b/y']
    assert compare.labels(['a/x/', 'b/y']) == ['x', 'y']


def test_results_are_mean_and_spread_over_seeds(runs, tmp_path, capsys):
    other = tmp_path / 'wide'
    other.mkdir()
    whole_run(other)
    change_config(other, width=2)
    for run in runs:  # as on ModelArts, where each run has a place of its own
        change_config(run, train_url='obs://bucket/' + run.name, restart=True)
    path = tmp_path / 'RESULTS.md'
    command.main(['--results', *map(str, runs + [other]), '--output', str(path)])
    assert capsys.readouterr().out == '%s\n' % path
    text = path.read_text()
    assert text.startswith('# Results\n\n<!-- ')
    assert [line for line in text.splitlines() if line.startswith('## ')] == [
        '## digits',
        '## wide',
    ]
    digits, wide = read_tables(text)
    lines = text.split('## wide')[0].splitlines()
    values = [91.2, 92.0, 90.5]
    assert digits[''] == ['runs', 'top-1', 'top-5']
    assert digits['measured'] == [
        '3',
        '%.2f ± %.2f %%' % (statistics.mean(values), statistics.stdev(values)),
        '98.77 ± 0.00 %',
    ]
    assert digits['lowest to highest'] == ['', '90.50 to 92.00 %', '98.77 to 98.77 %']
    assert digits['published: paper, median of 5'] == ['', '96.11 %', '']
    assert '- minutes a run: 62.09 ± 0.00' in lines
    assert '- device-hours a run: %.2f ± 0.00' % (62.09 / 60) in lines
    links = ['[%d](digits-seed%d/eval.json)' % (seed, seed) for seed in range(3)]
    assert '- seeds: ' + ', '.join(links) in lines
    assert wide['measured'] == ['1', '91.23 %', '98.77 %']


def test_results_keep_what_stands_around_them(runs, tmp_path):
    (runs[0] / 'report.md').write_text('a report')
    (runs[0] / 'plots').mkdir(exist_ok=True)
    (runs[0] / 'plots' / 'training.png').write_bytes(b'')
    path = tmp_path / 'RESULTS.md'
    command.main(['--results', str(runs[0]), '--output', str(path)])
    path.write_text(path.read_text().replace('# Results', '# Ours\n\nBefore.') + '\nAfter.\n')
    command.main(['--results', *map(str, runs), '--output', str(path)])
    text = path.read_text()
    assert text.startswith('# Ours\n\nBefore.\n') and text.endswith('-->\n\nAfter.\n')
    assert '90.50 to 92.00 %' in text and text.count('## digits') == 1
    assert '[0](digits-seed0/report.md)' in text
    assert '[training](digits-seed0/plots/training.png)' in text


def test_results_of_the_repository_are_what_its_runs_say(tmp_path):
    shutil.copytree(str(ROOT / 'docs' / 'results'), str(tmp_path / 'docs' / 'results'))
    path = tmp_path / 'RESULTS.md'
    shutil.copy(str(ROOT / 'RESULTS.md'), str(path))
    folders = sorted((tmp_path / 'docs' / 'results').iterdir())
    command.main(['--results', *map(str, folders), '--output', str(path)])
    assert path.read_text() == (ROOT / 'RESULTS.md').read_text()


def test_mistakes(runs, tmp_path, capsys):
    (runs[1] / 'eval.json').unlink()
    assert 'digits-seed1 has no final evaluation' in fails(capsys, '--results', *runs)
    assert '--compare needs two runs' in fails(capsys, '--compare', runs[0])
    assert 'is named twice' in fails(capsys, '--compare', runs[0], runs[0])
    assert 'is not a folder' in fails(capsys, '--compare', runs[0], tmp_path / 'none')
    fails(capsys)
