"""The command for atc, what is refused before it starts, and what its refusals are turned into."""

import dataclasses
import pathlib
import shlex
import stat

import numpy as np
import pytest
import tensorflow as tf

from common.errors import UserError
from common.files import checksum
from offline_inference import atc, manifest


@pytest.fixture
def convert(frozen, known, reference, sim, tmp_path):
    """convert(**changes): the request for the frozen graph of the paper's network, with these
    changes of atc.plan.
    """

    def call(frozen_graph=None, run=False, **changes):
        of = reference(**dict(known('paper').config, normalization='half'))
        changes.setdefault('soc_version', 'Ascend310')
        conversion = atc.plan(of, frozen_graph or frozen('paper'), tmp_path / 'net', **changes)
        return atc.convert(conversion) if run else conversion

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
    words = convert(precision_mode='allow_fp32_to_fp16', input_dtype='uint8', log='debug').command()
    assert {
        '--precision_mode=allow_fp32_to_fp16',
        '--insert_op_conf=%s' % (tmp_path / 'net.aipp.cfg'),
        '--log=debug',
    } <= set(words)
    assert 'min_chn_0: 127.5' in (tmp_path / 'net.aipp.cfg').read_text()
    words.append('--out_nodes=a:0;b:0')
    assert shlex.split(atc.shell(words)) == words


def test_precision_mode_of_the_model(convert, known, frozen, reference, sim, tmp_path):
    of = reference(**known('paper').config)
    offline = of.task.offline._replace(precision_mode='allow_fp32_to_fp16')
    of.task = dataclasses.replace(of.task, offline=offline)
    words = atc.plan(of, frozen('paper'), tmp_path / 'net', 'Ascend310').command()
    assert '--precision_mode=allow_fp32_to_fp16' in words
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


def test_chip_from_npu_smi(convert, monkeypatch):
    assert convert(soc_version=None).soc_version == 'Ascend910A'
    monkeypatch.setenv('ASCEND_SIM_CHIP', '310P3')
    monkeypatch.setenv('ASCEND_SIM_UNHEALTHY', '0')
    assert convert(soc_version=None).soc_version == 'Ascend310P3'
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(UserError, match='npu-smi is not on PATH.*give --soc_version'):
        convert(soc_version=None)


def test_conversion_and_reuse(convert, frozen, tmp_path):
    assert 'net.om' in convert(run=True)
    made = (tmp_path / 'net.om').stat().st_mtime_ns
    entry = manifest.sources(tmp_path / 'net.om')
    assert (
        entry['pb_sha256'] == checksum(frozen('paper'))
        and entry['input_shape'] == [4, 32, 32, 3]
        and entry['flags']['soc_version'] == 'Ascend310'
    )
    assert (
        'taken from an earlier run' in convert(run=True)
        and (tmp_path / 'net.om').stat().st_mtime_ns == made
    )
    assert 'taken' not in convert(
        run=True, soc_version='Ascend910A'
    )  # another chip is another model
    assert not list(pathlib.Path('.').glob('fusion_result.json'))


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
    with pytest.raises(UserError, match='empty.pb is not a frozen graph of wideresnet'):
        convert(tmp_path / 'empty.pb')
    (tmp_path / 'bad.pb').write_bytes(b'\x07nonsense' * 9)
    with pytest.raises(UserError, match='not a frozen graph, or it is damaged'):
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
    with pytest.raises(UserError, match='--frozen .*my models.*letters, digits.*rename'):
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
        convert(run=True, soc_version='Ascend911')
    assert not (tmp_path / 'net.om').exists()  # or a script would take it for the new one
    assert 'ATC run failed' in (tmp_path / 'net.atc.log').read_text()


@pytest.mark.parametrize(
    'script, message',
    [
        (
            'echo "ATC run success, welcome to the next use."',
            'does not exist',
        ),  # says so, but wrote nothing
        ('exit 139', 'failed with status 139: it printed nothing'),
        (
            'echo "ATC run failed"; echo "E77777: something new"; exit 255',
            'status 255: E77777: something new',
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
        manifest.sources(path)


@pytest.mark.parametrize(
    'form', ['%s: What atc says.', '%s: [PID: 7] 2026-01-02-03:04:05.006.007 What atc says.']
)
def test_code_of_atc_comes_with_its_fix(form, tmp_path):
    """CANN's forms before and since version 8."""
    output = (
        'ATC start working now, please wait for a moment.\nATC run failed, Please check the detail'
        ' log\n' + form % 'EZ3003'
    )
    message = str(atc.explain(output, 255, tmp_path / 'x.log'))
    assert message.startswith('atc: EZ3003: What atc says; ') and 'x.log' in message
    assert '--atc_precision_mode allow_fp32_to_fp16' in message


@pytest.mark.parametrize(
    'soc_version, mode, dtype, exact',
    [
        ('Ascend310', 'force_fp32', 'float32', True),
        ('Ascend310', 'force_fp32', 'uint8', False),  # AIPP computes in float16
        ('Ascend310B4', 'force_fp32', 'float32', False),  # so do its matrix units
        ('Ascend310', None, 'float32', False),
    ],
)
def test_what_is_rounded_to_float16(soc_version, mode, dtype, exact, convert):
    conversion = convert(soc_version=soc_version, precision_mode=mode, input_dtype=dtype)
    assert conversion.is_exact == exact
