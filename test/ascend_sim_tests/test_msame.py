"""The stand-ins for msame and ais_bench: what they print, name and write, and the mistakes that
they forgive or do not report.
"""

import json
import os
import re
import sys

import numpy as np
import pytest

STAMP = re.compile(r'out/\d{4}([1-9]|1[0-2])([1-9]|[12]\d|3[01])_\d{1,2}_\d{1,2}_\d{1,2}_\d{1,6}\Z')


@pytest.fixture(autouse=True)
def om(atc):
    """net.om for batches of 2, float32."""
    assert atc(precision_mode='force_fp32').status == 0


def results(tmp_path, result):
    """{file name: bytes} of the run's folder."""
    folder = next(line for line in result.lines if STAMP.match(line))
    return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}


def logits(content):
    return np.frombuffer(content, np.float32).reshape(-1, 5)


def test_a_folder(msame, batch, reference, tmp_path, assert_same):
    names = ('b.bin', 'a.x.bin', '.hidden.bin')
    images = {name: batch('in/' + name, seed) for seed, name in enumerate(names)}
    result = msame('in')
    assert (result.status, result.err) == (0, '')
    hidden = [
        re.sub(r'pid: \d+', 'pid: N', re.sub(r'\d+\.?\d*(e-\d+)?( ?ms)', r'T\2', line))
        for line in result.lines
    ]
    at = next(index for index, line in enumerate(hidden) if STAMP.match(line))
    each = ['[INFO] model execute success', 'Inference time: Tms', '[INFO] output data success']
    assert hidden[at + 1 :] == ['[INFO] start to process file:in/a.x.bin'] + each + [
        '[INFO] start to process file:in/b.bin'
    ] + each + [
        'Inference average time : T ms',
        'Inference average time without first time: T ms',
        '[INFO] unload model success, model Id is 1',
        '[INFO] pid: N Execute sample success',
        '[INFO] end to finalize acl',
    ]
    files = results(tmp_path, result)
    assert set(files) == {'a.x_output_0.bin', 'b_output_0.bin'}
    for name, content in files.items():
        assert_same(logits(content), reference(images[name.replace('_output_0', '')]))


def test_text(msame, batch, reference, tmp_path, assert_same):
    images = batch('in/a.bin')
    text = results(tmp_path, msame('in', '--outfmt', 'TXT'))['a_output_0.txt'].decode()
    rows = [[float(word) for word in line.split()] for line in text.splitlines()]
    assert_same(rows, [[float('%g' % value) for value in row] for row in reference(images)])
    assert text == ''.join(''.join('%g ' % value for value in row) + '\n' for row in rows)


def test_the_start_of_the_command(command, batch):
    batch('in/a.bin')
    done = command('msame', '--model', 'net.om', '--input', 'in', '--output', 'out')
    assert done.returncode == 0 and done.stderr == '' and 'Execute sample success' in done.stdout


@pytest.mark.parametrize(
    'status, message, words',
    [
        (0, 'input model file type is not .om', ['--model', 'net.pb']),
        (0, 'unknown paramenter', ['--models', 'net.om']),
        (0, "nothing doesn't exist", ['--input', 'nothing']),
        (1, 'load model from file failed', ['--model', 'missing.om']),
        (1, 'acl open device 9 failed', ['--device', '9']),
    ],
)
def test_mistakes(msame, batch, status, message, words):
    batch('in/a.bin')
    result = msame('in', *words)
    assert result.status == status
    assert any(line.startswith('[ERROR]') and message in line for line in result.lines)
    assert 'Execute sample success' not in result.out


def test_sizes(msame, batch, reference, tmp_path, assert_same):
    """The rest of a larger file is ignored; up to 64 missing bytes are garbage."""
    images = batch('large/a.bin', count=3)
    expected = reference(images[:2])
    files = results(tmp_path, msame('large'))
    assert set(files) == {'a_output_0.bin'}
    assert_same(logits(files['a_output_0.bin']), expected)
    batch('short/a.bin')
    (tmp_path / 'short' / 'a.bin').write_bytes(images[:2].tobytes()[:-64])
    first, second = logits(results(tmp_path, msame('short'))['a_output_0.bin'])
    assert_same(first, expected[0])
    assert not np.allclose(second, expected[1], atol=1e-4)
    result = msame('large,large')
    assert result.status == 0 and 'blob size:2 from user != op_size:1 in model' in result.out


def test_failures_in_a_folder(msame, batch, tmp_path):
    for name in 'abcd':
        batch('first/%s.bin' % name, count=1 if name == 'a' else 2)
        batch('third/%s.bin' % name, count=1 if name == 'c' else 2)
    result = msame('first')
    assert result.status == 1 and result.out.count('[ERROR] model execute failed') == 2
    assert 'input size:768 from user add align:64 < op_size:1536 in model' in result.out
    # The third is bad: nothing after it runs, and yet the tool reports success.
    result = msame('third')
    assert result.status == 0 and 'Execute sample success' in result.out
    assert sorted(results(tmp_path, result)) == ['a_output_0.bin', 'b_output_0.bin']


def test_acl_json(msame, batch, tmp_path):
    batch('in/a.bin')
    (tmp_path / 'acl.json').write_text('{')
    result = msame('in')
    assert result.status == 1 and result.lines[0] == '[ERROR] acl init failed'


def test_old_builds(msame, batch, monkeypatch):
    batch('in/a.bin')
    monkeypatch.setenv('ASCEND_SIM_MSAME_STAMP', 'old')
    assert re.search(r'^out/\d{8}_\d{6}$', msame('in').out, re.M)
    monkeypatch.delenv('ASCEND_SIM_MSAME_STAMP')
    monkeypatch.setenv('ASCEND_SIM_MSAME_OLD', '1')
    result = msame('in')
    assert re.search(r'^out/\d{8}_\d{6}$', result.out, re.M) and 'gear count' not in result.out
    assert '[INFO] Execute sample success' in result.lines


def bench(command):
    flags = '-W ignore -m ais_bench --model net.om --input in --output out --output_dirname run'
    return command(sys.executable, *flags.split())


def test_ais_bench(command, batch, reference, tmp_path, assert_same):
    images = {number: batch('in/im_%d.bin' % number, number) for number in (1, 2, 10)}
    done = bench(command)
    assert done.returncode == 0, done.stderr
    for number, image in images.items():
        file = tmp_path / 'out' / 'run' / ('im_%d_0.bin' % number)
        assert_same(logits(file.read_bytes()), reference(image))
    summary = json.loads((tmp_path / 'out' / 'run_summary.json').read_text())
    # Natural order: 10 is the last.
    assert summary['filesinfo']['2'] == {
        'infiles': ['in/im_10.bin'],
        'outfiles': ['out/run/im_10_0.bin'],
    }
    times = summary['npu_compute_time_list']
    assert len(times) == 3 and summary['throughput'] == pytest.approx(2000 / np.mean(times))


@pytest.mark.parametrize(
    'spoil, message',
    [
        (
            lambda folder: (
                os.rename(str(folder / 'net.om'), str(folder / 'x.om'))
                or (folder / 'net.om').symlink_to('x.om')
            ),
            'net.om is a soft link, not supported',
        ),
        (lambda folder: (folder / 'net.om').chmod(0o664), 'net.om is group writable'),
        (lambda folder: (folder / 'in').chmod(0o777), 'in is group writable'),
        (lambda folder: (folder / 'out').mkdir(0o755), 'out is group writable'),
    ],
)
def test_files_that_ais_bench_does_not_trust(command, batch, tmp_path, spoil, message):
    batch('in/a.bin')
    spoil(tmp_path)
    done = bench(command)
    assert done.returncode == 1 and message in done.stdout


def test_ais_bench_refuses_other_sizes(command, batch):
    batch('in/a.bin', count=1)
    done = bench(command)
    assert done.returncode == 1
    assert '[ERROR] arg0 tensorsize: 1536 filesize: 768 not match' in done.stdout
