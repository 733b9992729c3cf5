"""The stand-in for msame: what it prints, names and writes, and the mistakes that it forgives or
does not report.
"""

import os
import re
import signal
import subprocess

import numpy as np
import pytest
import tensorflow as tf

INFO = '[INFO] %s'
OPENED = [
    INFO % line
    for line in (
        'acl init success',
        'open device 0 success',
        'create context success',
        'create stream success',
        'get run mode success',
        'load model net.om success',
        'create model description success',
        'get input dynamic gear count success',
        'create model output success',
    )
]
CLOSED = [
    INFO % line
    for line in (
        'end to destroy stream',
        'end to destroy context',
        'end to reset device is 0',
        'end to finalize acl',
    )
]
STAMP = re.compile(r'out/\d{4}([1-9]|1[0-2])([1-9]|[12]\d|3[01])_\d{1,2}_\d{1,2}_\d{1,2}_\d{1,6}\Z')


@pytest.fixture
def om(atc):
    """net.om for batches of 2, float32."""
    assert atc(precision_mode='force_fp32').status == 0


@pytest.fixture
def batch(tmp_path):
    """batch(path, seed, count=2): writes images and returns them."""

    def write(path, seed=0, count=2):
        images = np.random.RandomState(seed).normal(0, 1, (count, 8, 8, 3)).astype(np.float32)
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        images.tofile(str(tmp_path / path))
        return images

    return write


def kept(lines):
    """Lines with their numbers hidden."""
    return [
        re.sub(r'pid: \d+', 'pid: N', re.sub(r'\d+\.?\d*(e-\d+)?( ?ms)', r'T\2', line))
        for line in lines
    ]


def results(tmp_path, result):
    """{file name: bytes} of the run's folder."""
    folder = next(line for line in result.lines if STAMP.match(line))
    return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}


def test_one_file(om, msame, batch, reference, tmp_path):
    images = batch('a.b.bin')
    result = msame(
        '--model', 'net.om', '--input=a.b.bin', '--output', 'out', '--outfmt', 'BIN', '--loop', '2'
    )
    assert (result.status, result.err) == (0, '')
    assert result.lines[:9] == OPENED and STAMP.match(result.lines[9])
    run = [INFO % 'model execute success', 'Inference time: Tms']
    assert (
        kept(result.lines[10:])
        == [INFO % 'start to process file:a.b.bin']
        + 2 * run
        + [
            INFO % 'get max dynamic batch size success',
            INFO % 'output data success',
            'Inference average time: T ms',
            'Inference average time without first time: T ms',
            INFO % 'destroy model input success',
            INFO % 'unload model success, model Id is 1',
            INFO % 'pid: N Execute sample success',
        ]
        + CLOSED
    )
    assert results(tmp_path, result) == {'net_output_0.bin': reference(images).tobytes()}


def test_a_folder(om, msame, batch, reference, tmp_path):
    images = {
        name: batch('in/' + name, seed)
        for seed, name in enumerate(('b.bin', 'a.x.bin', '.hidden.bin'))
    }
    result = msame('--model', 'net.om', '--input', 'in', '--output', 'out/', '--loop', '3')
    assert result.status == 0
    folder = result.lines[9]
    assert folder.startswith('out//')
    each = [
        INFO % 'model execute success',
        'Inference time: Tms',
        INFO % 'get max dynamic batch size success',
        INFO % 'output data success',
        INFO % 'destroy model input success',
    ]
    assert (
        kept(result.lines[10:])
        == [INFO % 'start to process file:in/a.x.bin']
        + each
        + [INFO % 'start to process file:in/b.bin']
        + each
        + [
            'Inference average time : T ms',
            'Inference average time without first time: T ms',
            INFO % 'unload model success, model Id is 1',
            INFO % 'pid: N Execute sample success',
        ]
        + CLOSED
    )
    assert {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} == {
        'a.x_output_0.bin': reference(images['a.x.bin']).tobytes(),
        'b_output_0.bin': reference(images['b.bin']).tobytes(),
    }


def test_zeros(om, msame, reference, tmp_path):
    result = msame('--model', 'net.om', '--output', 'out')
    assert results(tmp_path, result) == {
        'net_output_0.bin': reference(np.zeros((2, 8, 8, 3), np.float32)).tobytes()
    }


def test_two_folders_must_hold_the_same_names(atc, msame, tmp_path):
    with tf.Graph().as_default() as graph:
        tf.subtract(
            tf.placeholder(tf.float32, [2], 'a'), tf.placeholder(tf.float32, [2], 'b'), name='y'
        )
    (tmp_path / 'two.pb').write_bytes(graph.as_graph_def().SerializeToString())
    assert atc(model='two.pb', input_shape='a:2;b:2', out_nodes='y:0').status == 0
    for folder, number in (('a', 5), ('b', 2)):
        (tmp_path / folder).mkdir()
        np.full(2, number, np.float32).tofile(str(tmp_path / folder / 'x.bin'))
    result = msame('--model', 'net.om', '--input', 'a,b', '--output', 'out')
    assert np.frombuffer(results(tmp_path, result)['x_output_0.bin'], np.float32).tolist() == [3, 3]
    (tmp_path / 'b' / 'x.bin').rename(tmp_path / 'b' / 'z.bin')
    result = msame('--model', 'net.om', '--input', 'a,b', '--output', 'out')
    assert (
        result.status == 1
        and '[ERROR] open file b/x.bin failed' in result.lines
        and '[ERROR] Sample process failed' in result.lines
    )


def test_text(om, msame, batch, reference, tmp_path):
    images = batch('a.bin')
    result = msame('--model', 'net.om', '--input', 'a.bin', '--output', 'out', '--outfmt', 'TXT')
    expected = ''.join(
        ''.join('%.6g ' % value for value in row) + '\n' for row in reference(images)
    )
    assert results(tmp_path, result) == {'net_output_0.txt': expected.encode()}
    assert list(
        results(
            tmp_path,
            msame('--model', 'net.om', '--input', 'a.bin', '--output', 'out', '--outfmt', 'txt'),
        )
    ) == ['net_output_0.bin']


@pytest.mark.parametrize(
    'dtype, values, shape, text',
    [
        ('float16', [0.1, -65504, 3], [3], '0.0999756 -65504 3 '),
        ('float32', [1e-7, 1234567, 0.5, 2], [2, 1, 2], '1e-07 1.23457e+06 \n0.5 2 \n'),
        ('uint8', [65, 66], [1, 2], 'A B \n'),
        ('bool', [1, 0], [2, 1], '1 \n0 \n'),
        ('int64', [1 << 40], [1, 1], '1099511627776 \n'),
    ],
)
def test_text_of_other_types(sim, tmp_path, dtype, values, shape, text):
    from offline import msame_process

    msame_process.write_text(
        str(tmp_path / 'x.txt'), np.array(values, dtype).tobytes(), dtype, shape
    )
    assert (tmp_path / 'x.txt').read_text() == text


@pytest.mark.parametrize(
    'status, message, words',
    [
        (
            0,
            '[ERROR] input model file type is not .om , please check your model type!',
            ['--model', 'net.pb'],
        ),
        (0, '[ERROR] loop must in 1 to 100', ['--loop', '101']),
        (0, '[ERROR] loop must in 1 to 100', ['--loop', 'two']),
        (0, '[ERROR] device id must in 0 to 255', ['--device', '256']),
        (0, '[ERROR] dymBatch must in 1 to 2048', ['--dymBatch', '4096']),
        (0, '[ERROR] unknown paramenter', ['--modle', 'net.om']),
        (0, '[ERROR] unknown paramenter', ['--d', 'true']),
        (0, '[ERROR] unknown paramenter', ['--model', 'net.om', '--output']),
        (0, 'Usage:', ['--help']),
        (1, '[ERROR] Invalid params', []),
        (1, '[ERROR] Invalid params', ['--loop', '3']),
        (
            1,
            '[ERROR] dump and profiler can not both be true',
            ['--dump', 'true', '--profiler', 'true'],
        ),
        (
            1,
            '[ERROR] dymBatch dymDims dymHW dymShape cannot be set at the same time',
            ['--dymBatch', '2', '--dymHW', '8,8'],
        ),
        (1, '[ERROR] load model from file failed, model file is other.om', ['--model', 'other.om']),
        (1, '[ERROR] load model from file failed, model file is ', ['--output', 'out']),
        (1, '[ERROR] acl open device 200 failed', ['--model', 'net.om', '--device', '200']),
        (
            1,
            '[ERROR] the dynamic_batch_size parameter is not specified for model conversion',
            ['--model', 'net.om', '--dymBatch', '2'],
        ),
        (
            1,
            '[ERROR] the dynamic_image_size parameter is not specified for model conversion',
            ['--model', 'net.om', '--dymHW', '8,8'],
        ),
        (
            1,
            '[ERROR] the dynamic_dims parameter is not specified for model conversion',
            ['--model', 'net.om', '--dymDims', 'inputx:2,8,8,3'],
        ),
        (
            1,
            '[ERROR] om has 1 output, but outputSize parametet give 2',
            ['--model', 'net.om', '--outputSize', '40,40'],
        ),
        (
            0,
            "[ERROR] missing doesn't exist",
            ['--model', 'net.om', '--output', 'out', '--input', 'missing'],
        ),
        (
            0,
            "[ERROR] input parameter must be folder or file ending in '.bin'",
            ['--model', 'net.om', '--output', 'out', '--input', 'a.npy'],
        ),
        (
            1,
            '[ERROR] open file missing.bin failed',
            ['--model', 'net.om', '--output', 'out', '--input', 'missing.bin'],
        ),
        (
            1,
            '[ERROR] binfile is empty, filename is empty.bin',
            ['--model', 'net.om', '--output', 'out', '--input', 'empty.bin'],
        ),
        (
            0,
            '[ERROR] current user does not have permission',
            ['--model', 'net.om', '--output', 'no/such/folder', '--input', 'empty.bin'],
        ),
        (
            0,
            '[ERROR] current user does not have permission',
            ['--model', 'net.om', '--input', 'empty.bin'],
        ),
    ],
)
def test_mistakes(om, msame, tmp_path, status, message, words):
    for name in ('a.npy', 'empty.bin'):
        (tmp_path / name).write_bytes(b'')
    result = msame(*words)
    assert result.status == status and message in result.lines, result.out
    assert 'Execute sample success' not in result.out


def test_model_name_may_hold_om_anywhere(om, msame, tmp_path):
    (tmp_path / 'net.om').rename(tmp_path / 'net.om.1')
    assert list(
        results(tmp_path, msame('--mod', 'net.om.1', '--output', 'out', '--outf', 'BIN'))
    ) == ['net.om_output_0.bin']


def test_a_batch_that_is_too_small(om, msame, batch):
    batch('a.bin', count=1)
    result = msame('--model', 'net.om', '--input', 'a.bin', '--output', 'out')
    assert (
        result.status == 1
        and 'input size:768 from user add align:64 < op_size:1536 in model' in result.out
    )
    assert [line for line in result.lines if line.startswith('[ERROR]')] == [
        '[ERROR] execute model failed, modelId is 1',
        '[ERROR] model execute failed',
        '[ERROR] Sample process failed',
    ]
    assert result.lines[-4:] == CLOSED


def test_what_a_larger_file_holds_besides_is_ignored(om, msame, batch, reference, tmp_path):
    images = batch('a.bin', count=3)
    assert (
        results(tmp_path, msame('--model', 'net.om', '--input', 'a.bin', '--output', 'out'))[
            'net_output_0.bin'
        ]
        == reference(images[:2]).tobytes()
    )


def test_a_file_short_by_up_to_64_bytes_runs_on_garbage(om, msame, batch, reference, tmp_path):
    images = batch('a.bin')
    (tmp_path / 'a.bin').write_bytes(images.tobytes()[:-64])
    data = results(tmp_path, msame('--model', 'net.om', '--input', 'a.bin', '--output', 'out'))[
        'net_output_0.bin'
    ]
    assert (
        data[:20] == reference(images).tobytes()[:20]
        and data[20:] != reference(images).tobytes()[20:]
    )


def test_wrong_number_of_inputs(om, msame, batch):
    batch('a.bin')
    result = msame('--model', 'net.om', '--input', 'a.bin,a.bin', '--output', 'out')
    assert result.status == 1 and 'blob size:2 from user != op_size:1 in model' in result.out


def test_failures_in_a_folder(om, msame, batch, tmp_path):
    for name in ('a', 'b', 'c', 'd'):
        batch('first/%s.bin' % name, count=1 if name == 'a' else 2)
        batch('third/%s.bin' % name, count=1 if name == 'c' else 2)
    result = msame('--model', 'net.om', '--input', 'first', '--output', 'out')
    assert result.status == 1 and result.out.count('[ERROR] model execute failed') == 2
    # The third is bad: nothing after it runs, and yet all is well.
    result = msame('--model', 'net.om', '--input', 'third', '--output', 'out')
    assert result.status == 0 and 'Execute sample success' in result.out
    assert sorted(results(tmp_path, result)) == ['a_output_0.bin', 'b_output_0.bin']
    for name in ('b', 'c', 'd'):
        (tmp_path / 'first' / (name + '.bin')).unlink()
    result = msame('--model', 'net.om', '--input', 'first', '--output', 'out')
    assert (
        result.status == 0
        and 'Inference average time : -nan ms' in result.lines
        and 'Execute sample success' in result.out
    )


def test_an_empty_folder(om, msame, tmp_path):
    (tmp_path / 'in').mkdir()
    result = msame('--model', 'net.om', '--input', 'in', '--output', 'out')
    assert (
        result.status == 0
        and '[ERROR] No file in the directory[in]Inference average time : -nan ms' in result.lines
    )


def test_a_name_without_a_dot_kills_it(om, sim, batch, tmp_path):
    batch('in/image')
    done = subprocess.run(
        [str(sim / 'bin' / 'msame'), '--model', 'net.om', '--input', 'in', '--output', 'out'],
        cwd=str(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        env=dict(os.environ, ASCEND_SIM_PYTHON=os.sys.executable),
    )
    assert done.returncode == -signal.SIGABRT and 'std::out_of_range' in done.stderr
    assert done.stdout.splitlines()[:9] == OPENED and 'Inference time: ' in done.stdout


def test_output_size(om, msame, batch, reference, tmp_path):
    images = batch('a.bin')
    data = results(
        tmp_path,
        msame('--model', 'net.om', '--input', 'a.bin', '--output', 'out', '--outputSize', '100'),
    )['net_output_0.bin']
    assert data == reference(images).tobytes() + b'\xcd' * 60


def test_acl_json(om, msame, tmp_path):
    result = msame('--model', 'net.om', '--output', 'out', '--profiler', 'true')
    assert (
        '[INFO] delete acl.json success' in result.lines
        and not (tmp_path / 'acl.json').exists()
        and (tmp_path / 'out' / 'profiler').is_dir()
    )
    (tmp_path / 'acl.json').write_text('{}')
    result = msame('--model', 'net.om', '--output', 'out')
    assert result.status == 0 and 'acl.json' in result.err and (tmp_path / 'acl.json').exists()
    (tmp_path / 'acl.json').write_text('{')
    result = msame('--model', 'net.om', '--output', 'out')
    assert (
        result.status == 1
        and result.lines
        == ['[ERROR] acl init failed', '[ERROR] Sample init resource failed'] + CLOSED
    )


def test_old_builds(om, msame, monkeypatch):
    monkeypatch.setenv('ASCEND_SIM_MSAME_STAMP', 'old')
    result = msame('--model', 'net.om', '--output', 'out')
    assert re.match(r'out/\d{8}_\d{6}\Z', result.lines[9])
    monkeypatch.delenv('ASCEND_SIM_MSAME_STAMP')
    monkeypatch.setenv('ASCEND_SIM_MSAME_OLD', '1')
    result = msame('--model', 'net.om', '--output', 'out')
    assert '[INFO] Execute sample success' in result.lines and re.match(
        r'out/\d{8}_\d{6}\Z', result.lines[8]
    )
    assert not any(
        text in result.out for text in ('gear count', 'get max dynamic', 'destroy model input')
    )


def test_dynamic_batch(atc, msame, batch, reference, tmp_path):
    assert (
        atc(
            dynamic_batch_size='1,3,8', input_shape='inputx:-1,8,8,3', precision_mode='force_fp32'
        ).status
        == 0
    )
    images = batch('a.bin', count=3)
    words = ['--model', 'net.om', '--input', 'a.bin', '--output', 'out']
    result = msame(*words, '--dymBatch', '3')
    assert '[INFO] check dynamic batch success' in result.lines
    # 8 // 3 = 2: half of the buffer is written, 4 images' worth, of which 3 are real.
    data = results(tmp_path, result)['net_output_0.bin']
    assert len(data) == 80 and data[:60] == reference(images).tobytes()
    result = msame(*words, '--dymBatch', '2')
    assert (
        result.status == 1
        and '[ERROR] model has dynamic batch size:{[1][3][8]}, please set correct dynamic batch size'
        in result.lines
    )
    assert msame(*words).status == 1
    assert msame('--model', 'net.om', '--output', 'out').status == 1
    zeros = msame('--model', 'net.om', '--output', 'out', '--dymBatch', '8')
    assert (
        results(tmp_path, zeros)['net_output_0.bin']
        == reference(np.zeros((8, 8, 8, 3), np.float32)).tobytes()
    )


def test_dynamic_image_size_and_dims(atc, msame, reference, tmp_path):
    image = np.random.RandomState(5).normal(0, 1, (2, 6, 4, 3)).astype(np.float32)
    image.tofile(str(tmp_path / 'a.bin'))
    words = ['--model', 'net.om', '--input', 'a.bin', '--output', 'out']
    assert (
        atc(
            dynamic_image_size='8,8;6,4',
            input_shape='inputx:2,-1,-1,3',
            precision_mode='force_fp32',
        ).status
        == 0
    )
    assert (
        results(tmp_path, msame(*words, '--dymHW', '6,4'))['net_output_0.bin']
        == reference(image).tobytes()
    )
    assert '[ERROR] the dymHW parameter is not correct' in msame(*words, '--dymHW', '4,6').lines
    assert (
        atc(
            dynamic_dims='1,8,8;2,6,4',
            input_shape='inputx:-1,-1,-1,3',
            input_format='ND',
            precision_mode='force_fp32',
        ).status
        == 0
    )
    result = msame(*words, '--dymDims', 'inputx:2,6,4,3')
    assert (
        '[INFO] prepare dynamic dims successful' in result.lines
        and results(tmp_path, result)['net_output_0.bin'] == reference(image).tobytes()
    )
    assert '[ERROR] dims[1]:[2][6][4][3]' in msame(*words, '--dymDims', 'inputx:2,4,6,3').lines
    assert '[ERROR] model has dynamic_dims, please add dymDims parameter' in msame(*words).lines


def test_dims_of_two_inputs(atc, msame, tmp_path):
    with tf.Graph().as_default() as graph:
        tf.concat(
            [tf.placeholder(tf.float32, [None], 'a'), tf.placeholder(tf.float32, [None], 'b')],
            0,
            name='y',
        )
    (tmp_path / 'two.pb').write_bytes(graph.as_graph_def().SerializeToString())
    assert (
        atc(
            model='two.pb',
            input_shape='a:-1;b:-1',
            dynamic_dims='4,4;1,2',
            input_format='ND',
            out_nodes='y:0',
        ).status
        == 0
    )
    np.array([1], np.float32).tofile(str(tmp_path / 'a.bin'))
    np.array([2, 3], np.float32).tofile(str(tmp_path / 'b.bin'))
    result = msame(
        '--model', 'net.om', '--input', 'a.bin,b.bin', '--output', 'out', '--dymDims', 'a:1;b:2'
    )
    assert np.frombuffer(results(tmp_path, result)['net_output_0.bin'], np.float32)[
        :3
    ].tolist() == [1, 2, 3]
