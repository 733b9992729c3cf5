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
from offline_inference import atc, bins, freeze, manifest, msame, score


def write_bins(of, place, dtype='float32'):
    description = bins.describe(of, dtype)
    return bins.write(place, description, of.batches(), bins.count(of))


@pytest.fixture(scope='module')
def made(trained, reference, sim_for_module, tmp_path_factory):
    """(folder, model, batches): w.om, float32 in and out and not rounded, and the test split in
    batches of 8.
    """
    folder, of = tmp_path_factory.mktemp('made'), reference(batch_size=8, model_path=trained[0])
    freeze.freeze(of, folder / 'w.pb')
    with sim_for_module():
        conversion = atc.plan(
            of, folder / 'w.pb', folder / 'w.om', 'Ascend310', precision_mode='force_fp32'
        )
        atc.convert(conversion)
    return folder, of, write_bins(reference(batch_size=8), folder / 'bins')


@pytest.fixture
def wrap(tmp_path, sim, monkeypatch, start):
    """wrap(before, after=''): a msame that runs these shell commands around the stand-in, in its
    working folder. `start` has a server of forks for it.
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
    folder, of, batches = made
    found = msame.run(tool, folder / 'w.om', batches, tmp_path / 'r')
    np.testing.assert_allclose(values(found.files)[:21], trained[1], rtol=1e-4, atol=1e-5)
    assert len(found.milliseconds) == 2 and all(time > 0 for time in found.milliseconds)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['r']  # nothing is left beside them
    monkeypatch.setenv('PATH', '/nowhere')  # not needed again
    assert msame.run(tool, folder / 'w.om', batches, tmp_path / 'r') == found
    scored = score.score_files(of, batches, score.find_results(tmp_path / 'r', batches))
    assert (
        of.figures(scored.offline)['top1'] == (trained[1].argmax(1) == trained[2]).mean()
        and scored.online == {}
    )


@pytest.mark.parametrize(
    'setting', [{'ASCEND_SIM_MSAME_OLD': '1'}, {'ASCEND_SIM_MSAME_STAMP': 'old'}], ids=str
)
def test_builds_of_msame(setting, made, trained, sim, tmp_path, monkeypatch):
    for key, value in setting.items():
        monkeypatch.setenv(key, value)
    found = msame.run('msame', made[0] / 'w.om', made[2], tmp_path / 'r')
    np.testing.assert_allclose(values(found.files)[:21], trained[1], rtol=1e-4, atol=1e-5)


def test_folder_that_is_not_printed(made, wrap, sim, tmp_path):
    """A build that prints the path differently: the dated folder is found all the same."""
    wrap('', '')
    path = tmp_path / 'bin' / 'msame'
    path.write_text(
        '#!/bin/sh\n%s "$@" | sed "s,^results/,written to ,"\n' % (sim / 'bin' / 'msame')
    )
    assert len(msame.run('msame', made[0] / 'w.om', made[2], tmp_path / 'r').files) == 3


def test_failing_third_file(made, wrap, tmp_path):
    """msame itself ends in success then."""
    wrap('head -c 100 batches/000002.bin > x; mv x batches/000002.bin')
    with pytest.raises(
        UserError,
        match=(
            r'reported success, but did not write 000002_output_0.bin \(1 of 3'
            r' results.*op_size.*--batch_size'
        ),
    ):
        msame.run('msame', made[0] / 'w.om', made[2], tmp_path / 'r')
    assert not (tmp_path / 'r').exists()


@pytest.mark.parametrize('group_may_write', [False, True])
def test_tools_are_given_files_that_ais_bench_accepts(
    group_may_write, made, sim, tmp_path, monkeypatch
):
    """No soft links, and nothing that the group or others may write."""
    om, tool = tmp_path / 'w.om', msame.TOOLS['ais_bench']
    shutil.copy(str(made[0] / 'w.om'), str(om))
    om.chmod(0o664 if group_may_write else 0o644)

    def execute(scratch, device_id):
        for path in [scratch] + list(scratch.rglob('*')):
            assert not path.is_symlink() and not path.stat().st_mode & 0o022
        assert (scratch / 'model.om').samefile(om) != group_may_write
        return tool.execute(scratch, device_id)

    monkeypatch.setitem(msame.TOOLS, 'ais_bench', tool._replace(execute=execute))
    assert len(msame.run('ais_bench', om, made[2], tmp_path / 'r').files) == 3
    assert om.stat().st_mode & 0o777 == (0o664 if group_may_write else 0o644)


def test_result_of_a_wrong_size(made, wrap, tmp_path):
    wrap('', 'head -c 60 results/*/000001_output_0.bin > x; mv x results/*/000001_output_0.bin')
    with pytest.raises(UserError, match='did not write 000001_output_0.bin .1 of 3'):
        msame.run('msame', made[0] / 'w.om', made[2], tmp_path / 'r')


def test_status_0_is_no_success(made, wrap, tmp_path):
    wrap('rm -r batches')  # msame: [ERROR] batches doesn't exist, status 0
    with pytest.raises(
        UserError, match=r"msame failed \(status 0\): \[ERROR\] batches doesn't exist"
    ):
        msame.run('msame', made[0] / 'w.om', made[2], tmp_path / 'r')


@pytest.mark.parametrize('tool', ['msame', 'ais_bench'])
def test_failures_with_their_cure(tool, made, sim, tmp_path, monkeypatch):
    (tmp_path / 'bad.om').write_bytes(b'nonsense')
    with pytest.raises(
        UserError,
        match=tool
        + ' failed .status.*'
        + ('load model.*converted for this chip' if tool == 'msame' else ''),
    ):
        msame.run(tool, tmp_path / 'bad.om', made[2], tmp_path / 'r')
    if tool == 'msame':
        monkeypatch.setenv('ASCEND_SIM_DEVICES', '2')
        with pytest.raises(UserError, match='acl open device 5 failed.*--device_id'):
            msame.run(tool, made[0] / 'w.om', made[2], tmp_path / 'r', 5)


def test_missing_tools(made, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', '/nowhere')
    monkeypatch.delenv('PYTHONPATH', raising=False)
    with pytest.raises(UserError, match='msame is not on PATH'):
        msame.run('msame', made[0] / 'w.om', made[2], tmp_path / 'r')
    with pytest.raises(UserError, match='no Python has ais_bench'):
        msame.run('ais_bench', made[0] / 'w.om', made[2], tmp_path / 'r')
    with pytest.raises(UserError, match='no.om: no such file'):
        msame.run('msame', tmp_path / 'no.om', made[2], tmp_path / 'r')


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
    assert (
        len(msame.run('msame', tmp_path / 'own.om', bins.Bins.open(place), tmp_path / 'r').files)
        == 3
    )
    out = capsys.readouterr().out
    assert 'acl.json in this folder' in out and 'shows only in the results' in out


def test_what_does_not_belong_together(made, reference, sim, tmp_path):
    folder, of, batches = made
    others = [
        (reference(batch_size=8), 'uint8', 'input_dtype is float32, theirs is uint8'),
        (
            reference(batch_size=4),
            'float32',
            r'input_shape is \[8, 32, 32, 3\], theirs is \[4, 32, 32, 3\]',
        ),
        (reference(batch_size=8, normalization='cifar10'), 'float32', 'its normalization is'),
    ]
    for number, (other, dtype, message) in enumerate(others):
        wrong = write_bins(other, tmp_path / str(number), dtype)
        with pytest.raises(
            UserError, match='w.om does not belong to the other files: .*' + message
        ):
            msame.run('msame', folder / 'w.om', wrong, tmp_path / 'r')
    msame.run('msame', folder / 'w.om', batches, tmp_path / 'r')
    with pytest.raises(UserError, match='--results .* does not belong'):
        score.find_results(tmp_path / 'r', wrong)
    (tmp_path / 'w.om').write_bytes((folder / 'w.om').read_bytes())
    manifest.record(tmp_path / 'w.om', model='wideresnet')
    (tmp_path / 'w.om').write_bytes((folder / 'w.pb').read_bytes())
    with pytest.raises(UserError, match='was changed or replaced'):
        msame.run('msame', tmp_path / 'w.om', batches, tmp_path / 'r2')


def test_changed_results_are_not_reused(made, trained, sim, tmp_path):
    found = msame.run('msame', made[0] / 'w.om', made[2], tmp_path / 'r')
    found.files[1].write_bytes(bytes(found.files[1].stat().st_size))
    again = msame.run('msame', made[0] / 'w.om', made[2], tmp_path / 'r')
    np.testing.assert_allclose(values(again.files)[:21], trained[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('times, kept', [([90.0, 2.0, 4.0], [2.0, 4.0]), ([90.0], [90.0])])
def test_first_time_of_a_process_is_left_out(times, kept, made, sim, tmp_path, monkeypatch):
    tool = msame.TOOLS['msame']

    def execute(scratch, device_id):
        return tool.execute(scratch, device_id)._replace(milliseconds=times)

    monkeypatch.setitem(msame.TOOLS, 'msame', tool._replace(execute=execute))
    for _ in range(2):  # run, then reused
        found = msame.run('msame', made[0] / 'w.om', made[2], tmp_path / 'r')
        assert found.milliseconds == kept


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
        'holds 2 files of results, such as 000000_output_0.bin, not one for each of the 3 batches'
        in fails(score.main, words)
    )
    words[-1] = tmp_path
    assert 'holds no results' in fails(score.main, words)
