"""The command for atc, what is refused before it starts, and what its refusals are turned into."""

import pathlib
import stat

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from offline_inference import atc, atc_errors, manifest


@pytest.fixture
def convert(frozen, known, task, sim, tmp_path):
    """convert(**changes): the request for the frozen graph of the paper's network, with these
    changes of atc.request.
    """

    def call(frozen_graph=None, run=False, config={}, **changes):
        of = task(**dict(known('paper').config, normalization='half', **config))
        changes.setdefault('soc', 'Ascend310')
        request = atc.request(of, frozen_graph or frozen('paper'), tmp_path / 'net', **changes)
        return atc.convert(of, request) if run else request

    return call


@pytest.fixture
def tool(tmp_path, sim, monkeypatch):
    """tool(name, script): an executable of this name that comes first on PATH."""

    def make(name, script):
        (tmp_path / 'bin').mkdir(exist_ok=True)
        path = tmp_path / 'bin' / name
        path.write_text('#!/bin/sh\n' + script + '\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv('PATH', '%s:%s:/usr/bin:/bin' % (tmp_path / 'bin', sim / 'bin'))

    return make


def graph(path, build):
    with tf.Graph().as_default() as made:
        build()
        path.write_bytes(made.as_graph_def().SerializeToString())
    return path


def test_command(convert, frozen, tmp_path):
    assert convert().command() == [
        'atc',
        '--model=%s' % frozen('paper'),
        '--output=%s' % (tmp_path / 'net'),
        '--framework=3',
        '--soc_version=Ascend310',
        '--input_format=NHWC',
        '--input_shape=inputx:4,32,32,3',
        '--out_nodes=output/BiasAdd:0',
        '--output_type=FP32',
        '--log=error',
    ]
    words = convert(
        precision_mode='allow_fp32_to_fp16', input_dtype='uint8', log='debug', output_type='FP16'
    ).command()
    assert {
        '--precision_mode=allow_fp32_to_fp16',
        '--insert_op_conf=%s' % (tmp_path / 'net.aipp.cfg'),
        '--log=debug',
        '--output_type=FP16',
    } <= set(words)
    assert 'min_chn_0: 127.5' in (tmp_path / 'net.aipp.cfg').read_text()
    assert '--input_shape="inputx:4,32,32,3"' in atc.shell(convert().command())


def test_precision_mode_of_the_model(convert, task, monkeypatch):
    monkeypatch.setattr('wideresnet_tf.task.WideResNet.atc_precision_mode', 'allow_fp32_to_fp16')
    assert '--precision_mode=allow_fp32_to_fp16' in convert().command()
    assert '--precision_mode=force_fp32' in convert(precision_mode='force_fp32').command()


def test_dry_run_needs_no_atc(frozen, known, recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('PATH', str(tmp_path))
    atc.main(
        [
            str(word)
            for word in (
                '--model',
                'wideresnet',
                '--config',
                recipe(**known('paper').config),
                '--frozen',
                frozen('paper'),
                '--output',
                tmp_path / 'a.om',
                '--soc_version',
                'Ascend310P3',
                '--dry_run',
            )
        ]
    )
    out = capsys.readouterr().out
    assert (
        out.startswith('atc --model=')
        and '--output=%s ' % (tmp_path / 'a') in out
        and not (tmp_path / 'a.om').exists()
    )


def test_missing_atc(convert, monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(UserError, match='atc is not on PATH.*set_env.sh'):
        convert(run=True)


def test_chip_from_npu_smi(convert, monkeypatch, sim):
    assert convert(soc=None).soc_version == 'Ascend910A'
    monkeypatch.setenv('ASCEND_SIM_CHIP', '310P3')
    monkeypatch.setenv('ASCEND_SIM_UNHEALTHY', '0')
    assert convert(soc=None).soc_version == 'Ascend310P3'
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(UserError, match='npu-smi is not on PATH.*give --soc_version'):
        convert(soc=None)


def test_conversion_and_reuse(convert, frozen, tmp_path):
    assert 'net.om' in convert(run=True)
    made = (tmp_path / 'net.om').stat().st_mtime_ns
    entry = manifest.made_of(tmp_path / 'net.om')
    assert (
        entry['pb_sha256'] == manifest.sha256(frozen('paper'))
        and entry['input_shape'] == [4, 32, 32, 3]
        and entry['soc_version'] == 'Ascend310'
    )
    assert (
        'taken from an earlier run' in convert(run=True)
        and (tmp_path / 'net.om').stat().st_mtime_ns == made
    )
    assert 'taken' not in convert(run=True, soc='Ascend910A')  # another chip is another model
    assert not list(pathlib.Path('.').glob('fusion_result.json'))


# name: (changes, code, word of the cure)
REFUSED = {
    'unknown node': (
        dict(out_nodes='output/BiasAd:0'),
        "E10016: Opname .output/BiasAd. specified in .--out_nodes. .*did you mean 'output/BiasAdd'",
    ),
    'comma between nodes': (dict(out_nodes='output/BiasAdd:0,x:0'), 'E10001.*"node:0;node2:0"'),
    'no index': (dict(out_nodes='output/BiasAdd'), 'E10001: Value .output/BiasAdd.'),
    'unknown input': (
        dict(input_shape='input:4,32,32,3'),
        "E10016: Opname .input. specified in .--input_shape.*did you mean 'inputx'",
    ),
    'input is no placeholder': (
        dict(input_shape='output/BiasAdd:4,10'),
        'E10017.*Placeholders only',
    ),
    'no shape': (dict(input_shape='inputx'), 'E10002.*name:N,H,W,C'),
    'float shape': (dict(input_shape='inputx:4,32.0,32,3'), 'E10002'),
    'open shape': (dict(input_shape='inputx:-1,32,32,3'), 'E10011.*-1, which is not a positive'),
    'rank': (dict(input_shape='inputx:4,32,32'), r'E10049: Dimension count \[3\].*\[4\]'),
    'frozen for another': (
        dict(input_shape='inputx:8,32,32,3'),
        r'was frozen for \[4, 32, 32, 3\]; freeze it for this shape',
    ),
    'two dynamics': (
        dict(dynamic=dict(dynamic_batch_size='1,2', dynamic_image_size='8,8;9,9')),
        'E10009.*only one of',
    ),
    'batch not open': (
        dict(dynamic=dict(dynamic_batch_size='1,2'), input_shape='inputx:4,32,32,3'),
        'E10031',
    ),
    'more than the batch open': (
        dict(dynamic=dict(dynamic_batch_size='1,2'), input_shape='inputx:-1,-1,32,3'),
        'E10018',
    ),
    'one profile': (dict(dynamic=dict(dynamic_batch_size='4')), 'E10035.*at least 2'),
    '101 profiles': (
        dict(dynamic=dict(dynamic_batch_size=','.join(map(str, range(1, 102))))),
        'E10036.*at most 100',
    ),
    'profile of 0': (dict(dynamic=dict(dynamic_batch_size='0,2')), 'E10038'),
    'profile twice': (dict(dynamic=dict(dynamic_batch_size='2,2')), 'E10039'),
    'letters': (dict(dynamic=dict(dynamic_batch_size='1;2')), 'E10003'),
    'image size open wrongly': (
        dict(dynamic=dict(dynamic_image_size='8,8;9,9'), input_shape='inputx:4,-1,32,3'),
        'E10019',
    ),
    'image profile of 3': (
        dict(dynamic=dict(dynamic_image_size='8,8,8;9,9,9')),
        'E10003.*needs 2 numbers',
    ),
    'dims and AIPP': (
        dict(
            dynamic=dict(dynamic_dims='1;2'), input_shape='inputx:-1,32,32,3', input_dtype='uint8'
        ),
        'E10001.*does not support aipp',
    ),
}


@pytest.mark.parametrize('name', REFUSED)
def test_refused_before_atc_starts(name, convert, tool):
    tool('atc', 'echo started >&2; exit 1')
    changes, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        convert(run=True, **changes)


@pytest.mark.parametrize(
    'changes',
    [
        {},
        dict(dynamic=dict(dynamic_batch_size='1,4')),
        dict(dynamic=dict(dynamic_dims='1;4'), input_shape='inputx:-1,32,32,3'),
    ],
    ids=str,
)
def test_legal_shapes_are_let_through(changes, convert):
    convert(**changes)


def test_graphs_that_are_not_frozen(convert, tmp_path):
    def unfrozen():
        x = tf.placeholder(tf.float32, [4, 32, 32, 3], 'inputx')
        kernel = tf.Variable(np.ones((32, 10), np.float32), name='kernel')
        tf.nn.bias_add(
            tf.matmul(tf.reduce_mean(x, [1, 3]), kernel),
            np.ones(10, np.float32),
            name='output/BiasAdd',
        )

    path = graph(tmp_path / 'unfrozen.pb', unfrozen)
    with pytest.raises(
        UserError,
        match=(
            r'E19010: No parser is registered for Op \[kernel, optype'
            r' \[VariableV2\]\].*offline_inference.freeze'
        ),
    ):
        convert(path)
    (tmp_path / 'empty.pb').write_bytes(b'')
    with pytest.raises(UserError, match='E19015'):
        convert(tmp_path / 'empty.pb')
    (tmp_path / 'bad.pb').write_bytes(b'\x07nonsense' * 9)
    with pytest.raises(UserError, match='no frozen graph, or damaged'):
        convert(tmp_path / 'bad.pb')
    with pytest.raises(UserError, match='No such file'):
        convert(tmp_path / 'missing.pb')


def test_variables_that_the_output_does_not_need(convert, tmp_path):
    def left_over():
        x = tf.placeholder(tf.float32, [4, 32, 32, 3], 'inputx')
        tf.nn.bias_add(tf.reduce_mean(x, [1, 2]), np.ones(3, np.float32), name='output/BiasAdd')
        tf.Variable(1.0, name='global_step')

    convert(graph(tmp_path / 'left.pb', left_over))  # atc cuts them off


def test_illegal_path(convert, frozen, tmp_path):
    (tmp_path / 'my models').mkdir()
    path = tmp_path / 'my models' / 'net.pb'
    path.write_bytes(frozen('paper').read_bytes())
    with pytest.raises(UserError, match='E10001.*my models.*letters, digits'):
        convert(path)


@pytest.mark.parametrize('version', ['', 'ASCEND_SIM_NEW_CANN'])
def test_unknown_chip(version, convert, tmp_path, monkeypatch):
    if version:
        monkeypatch.setenv(version, '1')
    (tmp_path / 'net.om').write_text('an old one')
    with pytest.raises(
        UserError,
        match=(
            r'atc: E20101: Value \[Ascend911\].*npu-smi info shows.*all of its output:'
            r' .*net.atc.log'
        ),
    ):
        convert(run=True, soc='Ascend911')
    assert not (tmp_path / 'net.om').exists()  # or a script would take it for the new one
    assert 'ATC run failed' in (tmp_path / 'net.atc.log').read_text()


@pytest.mark.parametrize(
    'script, message',
    [
        (
            'echo "ATC run success, welcome to the next use."',
            'is not there',
        ),  # says so, but wrote nothing
        ('exit 139', 'failed with status 139: it printed nothing'),
        (
            'echo "ATC run failed"; echo "E77777: something new"; exit 255',
            'status 255.*E77777: something new|status 255: ATC run failed',
        ),
        (
            (
                'echo "EZ3002: [PID: 7] 2024-01-02-03:04:05.006.007 Optype [Foo] of Ops kernel is'
                ' unsupported"; exit 1'
            ),
            'EZ3002: Optype .Foo. of Ops kernel is unsupported; no engine of the chip',
        ),
    ],
)
def test_judged_by_what_it_says_and_leaves(script, message, convert, tool):
    tool('atc', script)
    with pytest.raises(UserError, match=message):
        convert(run=True)


def test_graph_of_another_model_or_input(convert, frozen, tmp_path):
    path = tmp_path / 'other.pb'
    path.write_bytes(frozen('paper').read_bytes())
    for facts, message in (
        (dict(model='xception'), 'its model is xception, theirs is wideresnet'),
        (dict(model='wideresnet', input_dtype='uint8'), 'its input_dtype is uint8'),
    ):
        manifest.record(path, **facts)
        with pytest.raises(UserError, match=message):
            convert(path)
    path.write_bytes(path.read_bytes() + b'\x00')
    with pytest.raises(UserError, match='was changed or replaced'):
        manifest.made_of(path)


# CANN's list of codes (error_code.json) as far as a conversion meets them, and a word that the cure
# must have.
CODES = {
    'E10001': 'legal',
    'E10002': 'N,H,W,C',
    'E10003': 'flag',
    'E10004': 'value',
    'E10005': 'true or false',
    'E10006': '0 or 1',
    'E10007': '--framework=3',
    'E10009': 'only one of',
    'E10011': 'above 0',
    'E10012': 'inputx:-1',
    'E10037': 'as many numbers',
    'E10040': '-1',
    'E10045': 'each -1',
    'E10046': 'each -1',
    'E10014': 'flag',
    'E10016': 'name of a node',
    'E10017': 'Placeholders',
    'E10018': '-1',
    'E10019': '-1',
    'E10021': 'shorter path',
    'E10022': 'not a folder',
    'E10031': 'inputx:-1',
    'E10034': 'AIPP',
    'E10035': 'at least 2',
    'E10036': 'at most 100',
    'E10038': 'above 0',
    'E10039': 'once',
    'E10041': 'offline_inference.freeze',
    'E10044': 'memory',
    'E10047': 'one of the two',
    'E10049': 'N,H,W,C',
    'E10052': 'AIPP',
    'E10054': 'quotation marks',
    'E10055': 'CANN',
    'E11005': '--input_shape',
    'E11017': 'name of a node',
    'E12009': 'offline_inference.freeze',
    'E12013': 'offline_inference.freeze',
    'E12029': 'offline_inference.freeze',
    'E19005': 'offline_inference.freeze',
    'E19010': 'offline_inference.freeze',
    'E19015': 'offline_inference.freeze',
    'E19018': '--input_dtype uint8',
    'E10501': 'CANN',
    'EZ3003': 'precision_mode',
    'E20101': 'npu-smi',
    'E19999': 'plog',
}


@pytest.mark.parametrize('code', sorted(CODES))
@pytest.mark.parametrize(
    'form', ['%s: What atc says.', '%s: [PID: 7] 2026-01-02-03:04:05.006.007 What atc says.']
)
def test_every_code_of_atc_comes_with_its_cure(code, form, tmp_path):
    output = (
        'ATC start working now, please wait for a moment.\nATC run failed, Please check the detail'
        ' log\n' + form % code
    )
    message = str(atc_errors.failure(output, 255, tmp_path / 'x.log'))
    cure = message[message.index('What atc says') :]
    assert (
        message.startswith('atc: %s: What atc says; ' % code)
        and CODES[code] in cure
        and 'x.log' in message
    )
