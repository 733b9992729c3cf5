"""msame and ais_bench (stand-ins) are believed only by what they leave; results in every form are
read.
"""

import json
import os
import shutil
import stat
import subprocess

import numpy as np
import pytest

from common.errors import UserError
from offline_inference import atc, bins, freeze, manifest, msame, results, score


@pytest.fixture(scope='module')
def made(trained, task, sim_for_module, tmp_path_factory):
    """Folder with w.om (float32 in and out, not rounded), half.om (float16 out) and bins of the
    test split in batches of 8; the task.
    """
    folder, of = tmp_path_factory.mktemp('made'), task(batch_size=8, model_path=trained[0])
    freeze.freeze(of, freeze.match(of), folder / 'w.pb')
    with sim_for_module():
        for name, flags in (
            ('w.om', dict(precision_mode='force_fp32')),
            ('half.om', dict(output_type='FP16')),
        ):
            atc.convert(of, atc.request(of, folder / 'w.pb', folder / name, 'Ascend310', **flags))
    records = of.folder('test')
    bins.write(
        folder / 'bins', bins.identity(of, records, 'float32'), bins._batches(of, records), 3
    )
    return folder, of


@pytest.fixture
def wrap(tmp_path, sim, monkeypatch):
    """wrap(before, after=''): a msame that runs these shell commands around the stand-in, in its
    working folder.
    """

    def make(before, after=''):
        (tmp_path / 'bin').mkdir()
        path = tmp_path / 'bin' / 'msame'
        path.write_text(
            '#!/bin/sh\n%s\n%s "$@"\nstatus=$?\n%s\nexit $status\n'
            % (before, sim / 'bin' / 'msame', after)
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv('PATH', '%s:%s' % (tmp_path / 'bin', os.environ['PATH']))

    return make


def values(files):
    return np.concatenate([np.fromfile(str(path), np.float32) for path in files]).reshape(-1, 4)


@pytest.mark.parametrize('tool', ['msame', 'ais_bench'])
def test_logits_times_and_reuse(tool, made, trained, sim, tmp_path, monkeypatch):
    folder, of = made
    found = msame.run(tool, folder / 'w.om', folder / 'bins', tmp_path / 'r')
    np.testing.assert_allclose(values(found.files)[:21], trained[1], rtol=1e-4, atol=1e-5)
    assert len(found.milliseconds) == 3 and all(time > 0 for time in found.milliseconds)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['r']  # nothing is left beside them
    monkeypatch.setenv('PATH', '/nowhere')  # not needed again
    assert msame.run(tool, folder / 'w.om', folder / 'bins', tmp_path / 'r') == found
    scored = results.compare(of, folder / 'bins', tmp_path / 'r')
    assert (
        of.metrics(scored.offline)['top1'] == (trained[1].argmax(1) == trained[2]).mean()
        and scored.online == {}
    )


@pytest.mark.parametrize(
    'setting', [{'ASCEND_SIM_MSAME_OLD': '1'}, {'ASCEND_SIM_MSAME_STAMP': 'old'}], ids=str
)
def test_builds_of_msame(setting, made, trained, sim, tmp_path, monkeypatch):
    for key, value in setting.items():
        monkeypatch.setenv(key, value)
    found = msame.run('msame', made[0] / 'w.om', made[0] / 'bins', tmp_path / 'r')
    np.testing.assert_allclose(values(found.files)[:21], trained[1], rtol=1e-4, atol=1e-5)


def test_folder_that_is_not_printed(made, wrap, sim, tmp_path, monkeypatch):
    """A build that prints the path differently: the dated folder is found all the same."""
    wrap('', '')
    path = tmp_path / 'bin' / 'msame'
    path.write_text(
        '#!/bin/sh\n%s "$@" | sed "s,^results/,written to ,"\n' % (sim / 'bin' / 'msame')
    )
    assert len(msame.run('msame', made[0] / 'w.om', made[0] / 'bins', tmp_path / 'r').files) == 3


def test_failing_third_file(made, wrap, tmp_path):
    """msame itself ends in success then."""
    wrap(
        'rm batches; cp -r %s batches; head -c 100 batches/000002.bin > x; mv x batches/000002.bin'
        % (made[0] / 'bins' / 'batches')
    )
    with pytest.raises(
        UserError,
        match=(
            r'ended in success, but did not write 000002_output_0.bin \(1 of 3'
            r' results.*op_size.*--batch_size'
        ),
    ):
        msame.run('msame', made[0] / 'w.om', made[0] / 'bins', tmp_path / 'r')
    assert not (tmp_path / 'r').exists()


def test_result_of_a_wrong_size(made, wrap, tmp_path):
    wrap('', 'head -c 60 results/*/000001_output_0.bin > x; mv x results/*/000001_output_0.bin')
    with pytest.raises(UserError, match='did not write 000001_output_0.bin .1 of 3'):
        msame.run('msame', made[0] / 'w.om', made[0] / 'bins', tmp_path / 'r')


def test_status_0_is_no_success(made, wrap, tmp_path):
    wrap('rm batches')  # msame: [ERROR] batches doesn't exist, status 0
    with pytest.raises(
        UserError, match=r"msame failed \(status 0\): \[ERROR\] batches doesn't exist"
    ):
        msame.run('msame', made[0] / 'w.om', made[0] / 'bins', tmp_path / 'r')


@pytest.mark.parametrize('tool', ['msame', 'ais_bench'])
def test_failures_with_their_cure(tool, made, sim, tmp_path, monkeypatch):
    (tmp_path / 'bad.om').write_bytes(b'nonsense')
    with pytest.raises(
        UserError,
        match=tool
        + ' failed .status.*'
        + ('load model.*converted for this chip' if tool == 'msame' else ''),
    ):
        msame.run(tool, tmp_path / 'bad.om', made[0] / 'bins', tmp_path / 'r')
    if tool == 'msame':
        monkeypatch.setenv('ASCEND_SIM_DEVICES', '2')
        with pytest.raises(UserError, match='acl open device 5 failed.*--device_id'):
            msame.run(tool, made[0] / 'w.om', made[0] / 'bins', tmp_path / 'r', 5)


def test_missing_tools(made, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', '/nowhere')
    monkeypatch.delenv('PYTHONPATH', raising=False)
    with pytest.raises(UserError, match='msame is not on PATH'):
        msame.run('msame', made[0] / 'w.om', made[0] / 'bins', tmp_path / 'r')
    with pytest.raises(UserError, match='no Python has ais_bench'):
        msame.run('ais_bench', made[0] / 'w.om', made[0] / 'bins', tmp_path / 'r')
    with pytest.raises(UserError, match='no.om: no such file'):
        msame.run('msame', tmp_path / 'no.om', made[0] / 'bins', tmp_path / 'r')


def test_acl_json_and_paths_that_msame_misreads(made, sim, tmp_path, monkeypatch, capsys):
    """msame obeys an acl.json where it is started; a folder with ".bin" in its name is a file to
    it, a comma ends a path.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'acl.json').write_text('{not json')  # msame would end here
    place = tmp_path / 'x.bin, y'
    shutil.copytree(str(made[0] / 'bins'), str(place))
    (tmp_path / 'own.om').write_bytes(
        (made[0] / 'w.om').read_bytes()
    )  # nor does any manifest describe it
    assert len(msame.run('msame', tmp_path / 'own.om', place, tmp_path / 'r').files) == 3
    out = capsys.readouterr().out
    assert 'acl.json in this folder' in out and 'shows only in the results' in out


def test_what_does_not_belong_together(made, task, data, sim, tmp_path):
    folder, of = made
    records = of.folder('test')
    others = [
        (task(batch_size=8), 'uint8', 'input_dtype is float32, theirs is uint8'),
        (
            task(batch_size=4),
            'float32',
            r'input_shape is \[8, 32, 32, 3\], theirs is \[4, 32, 32, 3\]',
        ),
        (task(batch_size=8, normalization='cifar10'), 'float32', 'its normalization is'),
    ]
    for number, (other, dtype, message) in enumerate(others):
        place = tmp_path / str(number)
        bins.write(
            place,
            bins.identity(other, records, dtype),
            bins._batches(other, records),
            bins.count(other, records),
        )
        with pytest.raises(
            UserError, match='w.om does not belong to the other files: .*' + message
        ):
            msame.run('msame', folder / 'w.om', place, tmp_path / 'r')
    msame.run('msame', folder / 'w.om', folder / 'bins', tmp_path / 'r')
    with pytest.raises(UserError, match='--results .* does not belong'):
        results.compare(of, tmp_path / '2', tmp_path / 'r')
    (tmp_path / 'w.om').write_bytes((folder / 'w.om').read_bytes())
    manifest.record(tmp_path / 'w.om', model='wideresnet')
    (tmp_path / 'w.om').write_bytes((folder / 'half.om').read_bytes())
    with pytest.raises(UserError, match='was changed or replaced'):
        msame.run('msame', tmp_path / 'w.om', folder / 'bins', tmp_path / 'r2')


def test_float16_results(made, trained, sim, tmp_path):
    found = msame.run('msame', made[0] / 'half.om', made[0] / 'bins', tmp_path / 'r')
    assert {path.stat().st_size for path in found.files} == {2 * 8 * 4}
    read = np.concatenate([results.logits(path, [8, 4]) for path in found.files])
    np.testing.assert_allclose(read[:21], trained[1], atol=0.02 * np.abs(trained[1]).max())


def by_hand(sim, folder, output, *flags):
    """msame as a user starts it."""
    output.mkdir()
    text = subprocess.run(
        [
            'msame',
            '--model',
            str(folder / 'w.om'),
            '--input',
            str(folder / 'bins' / 'batches'),
            '--output',
            str(output),
        ]
        + list(flags),
        stdout=subprocess.PIPE,
        universal_newlines=True,
    ).stdout
    assert 'Execute sample success' in text


def test_score_of_results_made_by_hand_as_text(made, trained, sim, recipe, data, tmp_path, capsys):
    by_hand(sim, made[0], tmp_path / 'r', '--outfmt', 'TXT')
    words = [
        '--model',
        'wideresnet',
        '--config',
        str(recipe()),
        '--batch_size',
        '8',
        '--bins',
        str(made[0] / 'bins'),
        '--results',
        str(tmp_path / 'r'),
    ]
    score.main(words)
    out = capsys.readouterr().out
    right = (trained[1].argmax(1) == trained[2]).mean()
    assert out.splitlines()[-1] == '>>>>>  共 21 测试样本    accuracy:%.6f' % right
    assert json.loads(out[: out.rindex('}') + 1])['top1'] == pytest.approx(right)


def test_score_refuses_half_a_folder(made, sim, recipe, fails, tmp_path):
    by_hand(sim, made[0], tmp_path / 'r')
    next((tmp_path / 'r').glob('*/000001_output_0.bin')).unlink()
    words = [
        '--model',
        'wideresnet',
        '--config',
        recipe(),
        '--bins',
        made[0] / 'bins',
        '--results',
        tmp_path / 'r',
    ]
    assert (
        '2 files from 000000_output_0.bin to 000002_output_0.bin, wanted is one for each of the 3'
        ' batches' in fails(score.main, words)
    )
    words[-1] = tmp_path
    assert 'holds no results' in fails(score.main, words)


def test_files_in_natural_order_of_the_newest_folder(tmp_path):
    for stamp in ('20220922_170409', '2022922_17_4_9_955610'):
        (tmp_path / stamp).mkdir()
        for name in ('b10', 'b9', 'b1'):
            (tmp_path / stamp / (name + '_output_0.bin')).write_bytes(b'')
    os.utime(str(tmp_path / '2022922_17_4_9_955610'), (1, 1))
    found = results.find(tmp_path)
    assert [path.name for path in found] == [
        'b1_output_0.bin',
        'b9_output_0.bin',
        'b10_output_0.bin',
    ] and found[0].parent.name == '20220922_170409'


def test_unreadable_results(tmp_path):
    np.zeros(5, np.float32).tofile(str(tmp_path / 'a_0.bin'))
    with pytest.raises(
        UserError, match='has 20 bytes; .8, 4. logits are 128 in float32, 64 in float16'
    ):
        results.logits(tmp_path / 'a_0.bin', [8, 4])
    (tmp_path / 'a_0.txt').write_text('1 2 3 \n')
    with pytest.raises(UserError, match='holds 3 numbers'):
        results.logits(tmp_path / 'a_0.txt', [8, 4])
    (tmp_path / 'a_0.txt').write_text('1 2 3 \n4 nan -inf \n')
    assert np.array_equal(np.nan_to_num(results.logits(tmp_path / 'a_0.txt', [2, 3])[0]), [1, 2, 3])
