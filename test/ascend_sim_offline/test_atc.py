"""The stand-in for atc: its protocol, what it refuses and with which code, and that what it makes
computes what the graph computes.
"""

import os
import re
import subprocess

import numpy as np
import pytest
import tensorflow as tf

START = 'ATC start working now, please wait for a moment.'
FAILED = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"


def code(result):
    """The error code of a refusal, whose text must have the tool's form."""
    assert result.status == 255 and result.lines[:2] == [START, FAILED], result.out
    return re.match(r'(E\w{4,5}): ', result.lines[2]).group(1)


@pytest.fixture
def images():
    return np.random.RandomState(1).normal(0, 1, (2, 8, 8, 3)).astype(np.float32)


def test_success_prints_two_lines_and_appends_om(atc, tmp_path):
    result = atc(output='made/by/net.om')
    assert (result.status, [line for line in result.lines if line], result.err) == (
        0,
        [START, 'ATC run success, welcome to the next use.'],
        '',
    )
    assert sorted(path.name for path in (tmp_path / 'made' / 'by').iterdir()) == ['net.om.om']


def test_command_finds_its_python_and_prints_nothing_else(sim, net, tmp_path):
    words = [
        '--model=%s' % (net / 'net.pb'),
        '-framework',
        '3',
        '--input_shape',
        'inputx:2,8,8,3',
        '-out_nodes=out/BiasAdd:0',
        '--output=net',
        '--soc_version=Ascend310',
    ]
    done = subprocess.run(
        [str(sim / 'bin' / 'atc')] + words,
        cwd=str(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        env=dict(os.environ, ASCEND_SIM_PYTHON=os.sys.executable),
    )
    assert (done.returncode, done.stdout.split('\n')[:2], done.stderr) == (
        0,
        [START, 'ATC run success, welcome to the next use.'],
        '',
    )
    assert (tmp_path / 'net.om').exists()


@pytest.mark.parametrize(
    'words, error',
    [
        (['--xyz=1', '--model=a'], "ERROR: unknown command line flag 'xyz'\n"),
        (
            ['--framework=three'],
            "ERROR: illegal value 'three' specified for int32 flag 'framework'\n",
        ),
        (['--model'], "ERROR: flag 'model' is missing its argument\n"),
    ],
)
def test_flags_that_cannot_be_read(atc, words, error):
    result = atc(*words)
    assert (result.status, result.lines, result.err) == (1, [START], error)


def test_help(atc):
    result = atc('--help')
    assert (
        result.status == 1
        and '--precision_mode (force_fp16)' in result.out
        and '--soc_version' in result.out
    )


def test_old_cann(atc, monkeypatch):
    assert code(atc(soc_version='Ascend910')) == 'E20101'
    monkeypatch.setenv('ASCEND_SIM_OLD_CANN', '1')
    assert atc(soc_version='Ascend910').status == 0
    assert 'unknown command line flag' in atc(precision_mode_v2='origin').err


def test_new_cann_stamps_its_errors(atc, monkeypatch):
    monkeypatch.setenv('ASCEND_SIM_NEW_CANN', '1')
    assert re.match(
        r'E10007: \[PID: \d+\] \d{4}-\d\d-\d\d-\d\d:\d\d:\d\d\.\d{3}\.\d{3} \[--framework\] is'
        r' required',
        atc(framework=None).lines[2],
    )


@pytest.mark.parametrize(
    'expected, changes',
    [
        ('E10007', dict(framework=None)),
        ('E10007', dict(framework=7)),
        ('E10008', dict(framework=0)),
        ('E10041', dict(framework=1)),
        ('E10054', dict(soc_version=None)),
        ('E10054', dict(output=None)),
        ('E10054', dict(model='')),
        ('E10001', dict(mode=9)),
        ('E10001', dict(model='missing.pb')),
        ('E10001', dict(output='a folder/net')),
        ('E10001', dict(output='file/net')),
        ('E10021', dict(output='n' * 4096)),
        ('E10022', dict(output='folder/')),
        ('E10001', dict(input_format='CHWN')),
        ('E10001', dict(precision_mode='fp16')),
        ('E10001', dict(precision_mode_v2='force_fp16')),
        ('E10056', dict(precision_mode='force_fp16', precision_mode_v2='fp16')),
        ('E10001', dict(precision_mode='allow_mix_precision_bf16')),
        ('E10001', dict(op_select_implmode='fast')),
        ('E10001', dict(optypelist_for_implmode='Conv2D')),
        ('E10001', dict(buffer_optimize='l1_optimize')),
        ('E10006', dict(disable_reuse_memory=2)),
        ('E10005', dict(enable_single_stream='yes')),
        ('E10001', dict(insert_op_conf='missing.cfg')),
        ('E10002', dict(input_shape='inputx')),
        ('E10002', dict(input_shape='inputx:')),
        ('E10002', dict(input_shape='inputx:2,8,8,3;')),
        ('E10002', dict(input_shape='inputx:2,8.0,8,3')),
        ('E10002', dict(input_shape='inputx:2,8x8,3')),
        ('E10011', dict(input_shape='inputx:-1,8,8,3')),
        ('E10011', dict(input_shape='inputx:0,8,8,3')),
        ('E10016', dict(input_shape='images:2,8,8,3')),
        ('E10016', dict(input_shape='inputx:0:2,8,8,3')),
        ('E10016', dict(input_shape='inputx:2,8,8,3,other:1')),
        ('E10017', dict(input_shape='Conv2D:2,8,8,4')),
        ('E10049', dict(input_shape='inputx:8,8,3')),
        ('E10001', dict(input_shape=None)),
        ('E19999', dict(input_shape='inputx:2,8,8,4')),
        ('E10016', dict(out_nodes='logits:0')),
        ('E10016', dict(out_nodes='out/BiasAdd:0;logits:0')),
        ('E10001', dict(out_nodes='out/BiasAdd')),
        ('E10001', dict(out_nodes='out/BiasAdd:0,label:0')),
        ('E10001', dict(out_nodes='out/BiasAdd:x')),
        ('E10003', dict(out_nodes='out/BiasAdd:1')),
        ('E10055', dict(out_nodes='label:0')),
        ('E10001', dict(output_type='FLOAT')),
        ('E10001', dict(output_type='out/BiasAdd:0:HALF')),
        ('E10001', dict(output_type='label:0:FP32')),
        ('E10016', dict(input_fp16_nodes='images')),
        ('E10017', dict(input_fp16_nodes='Conv2D')),
        ('E10009', dict(dynamic_batch_size='1,2', dynamic_dims='1;2')),
        ('E10009', dict(dynamic_batch_size='1,2', input_shape_range='inputx:[1~2,8,8,3]')),
        ('E10004', dict(dynamic_batch_size='1,2', input_shape=None)),
        ('E10031', dict(dynamic_batch_size='1,2')),
        ('E10018', dict(dynamic_batch_size='1,2', input_shape='inputx:-1,-1,8,3')),
        ('E10035', dict(dynamic_batch_size='2', input_shape='inputx:-1,8,8,3')),
        (
            'E10036',
            dict(
                dynamic_batch_size=','.join(map(str, range(1, 102))), input_shape='inputx:-1,8,8,3'
            ),
        ),
        ('E10038', dict(dynamic_batch_size='0,2', input_shape='inputx:-1,8,8,3')),
        ('E10039', dict(dynamic_batch_size='2,2', input_shape='inputx:-1,8,8,3')),
        ('E10003', dict(dynamic_batch_size='1;2', input_shape='inputx:-1,8,8,3')),
        ('E10019', dict(dynamic_image_size='8,8;9,9', input_shape='inputx:-1,8,8,3')),
        ('E10020', dict(dynamic_image_size='8;9', input_shape='inputx:2,-1,-1,3')),
        ('E10001', dict(dynamic_dims='1;2', input_shape='inputx:-1,8,8,3')),
        ('E10003', dict(dynamic_dims='1,8;2', input_shape='inputx:-1,8,8,3', input_format='ND')),
        ('E10055', dict(input_shape_range='inputx:[1~2,8,8,3]')),
        ('E10055', dict(mode=1)),
    ],
)
def test_refusals(atc, tmp_path, expected, changes):
    (tmp_path / 'file').write_text('')
    assert code(atc(**changes)) == expected
    assert not list(tmp_path.glob('*.om'))


def test_aipp_excludes_dynamic_dims(atc, tmp_path):
    (tmp_path / 'aipp.cfg').write_text('aipp_op { aipp_mode: static input_format: RGB888_U8 }')
    assert (
        'dynamic dims function does not support aipp'
        in atc(
            insert_op_conf='aipp.cfg',
            dynamic_dims='1;2',
            input_format='ND',
            input_shape='inputx:-1,8,8,3',
        ).out
    )


@pytest.mark.parametrize(
    'expected, content',
    [
        ('E19015', b''),
        ('E19005', b'\x0a\xff\xff\xff\xff\xff'),
        ('E10041', tf.GraphDef(version=1).SerializeToString()),
    ],
)
def test_files_that_are_no_graph(atc, tmp_path, expected, content):
    (tmp_path / 'bad.pb').write_bytes(content)
    assert code(atc(model='bad.pb')) == expected


def graph_file(path, build):
    """Writes the graph of build()."""
    with tf.Graph().as_default() as graph:
        build()
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def test_a_graph_that_is_not_frozen(atc, net):
    result = atc(model=net / 'trained.pb')
    assert code(result) == 'E19010' and re.search(
        r'No parser is registered for Op \[\w+, optype \[VariableV2\]\]\.', result.out
    )


@pytest.mark.parametrize(
    'optype, build',
    [
        ('ReadVariableOp', lambda x: x + tf.get_variable('v', [2], use_resource=True)),
        (
            'IteratorGetNext',
            lambda x: (
                x
                + tf.data.make_one_shot_iterator(
                    tf.data.Dataset.from_tensors(tf.zeros([2]))
                ).get_next()
            ),
        ),
        ('QueueDequeueV2', lambda x: x + tf.reshape(tf.FIFOQueue(2, tf.float32).dequeue(), [2])),
        (
            'Assert',
            lambda x: tf.identity(x, name='y') if not tf.debugging.assert_positive(x) else None,
        ),
        ('PyFunc', lambda x: tf.py_func(lambda a: a, [x], tf.float32)),
        ('Print', lambda x: tf.Print(x, [x])),
    ],
)
def test_operations_of_the_host(atc, tmp_path, optype, build):
    def whole():
        x = tf.placeholder(tf.float32, [2], 'inputx')
        with tf.control_dependencies(
            [tf.debugging.assert_positive(x)] if optype == 'Assert' else []
        ):
            tf.identity(build(x) if optype != 'Assert' else x, name='y')

    graph_file(tmp_path / 'host.pb', whole)
    result = atc(model='host.pb', input_shape='inputx:2', out_nodes='y:0')
    assert code(result) == 'E19010' and 'optype [' in result.out


def test_functions(atc, tmp_path):
    graph_file(
        tmp_path / 'function.pb',
        lambda: tf.identity(
            tf.function(tf.nn.relu)(tf.placeholder(tf.float32, [2], 'inputx')), name='y'
        ),
    )
    assert code(atc(model='function.pb', input_shape='inputx:2', out_nodes='y:0')) == 'E12029'


def test_what_the_outputs_do_not_need_is_cut(atc, tmp_path):
    def whole():
        x = tf.placeholder(tf.float32, [2], 'inputx')
        tf.nn.relu(x, name='y')
        tf.identity(x + tf.Variable([1.0, 2.0]), name='training_only')

    graph_file(tmp_path / 'more.pb', whole)
    assert atc(model='more.pb', input_shape='inputx:2', out_nodes='y:0').status == 0


@pytest.mark.parametrize(
    'flags',
    [
        dict(precision_mode='force_fp32'),
        dict(precision_mode='must_keep_origin_dtype'),
        dict(precision_mode_v2='origin'),
    ],
)
def test_float32_modes_are_exact(atc, infer, reference, images, flags):
    assert atc(**flags).status == 0
    assert infer(images) == reference(images).tobytes()


def test_default_mode_rounds_to_half(atc, infer, reference, images):
    assert atc().status == 0
    result = np.frombuffer(infer(images), np.float32).reshape(2, 5)
    expected = reference(images)
    assert not np.array_equal(result, expected)
    np.testing.assert_allclose(result, expected, rtol=0, atol=4e-3)
    assert np.array_equal(result, result.astype(np.float16).astype(np.float32))


def test_matrix_unit_alone_rounds_what_it_takes(atc, infer, reference, images):
    assert atc(precision_mode='allow_fp32_to_fp16').status == 0
    result = np.frombuffer(infer(images), np.float32).reshape(2, 5)
    np.testing.assert_allclose(result, reference(images), rtol=0, atol=4e-3)
    assert not np.array_equal(result, result.astype(np.float16).astype(np.float32))


def test_half_saturates(atc, infer, tmp_path):
    graph_file(
        tmp_path / 'big.pb',
        lambda: tf.multiply(tf.placeholder(tf.float32, [3], 'inputx'), 1000.0, name='y'),
    )
    assert atc(model='big.pb', input_shape='inputx:3', out_nodes='y:0', output='big').status == 0
    values = np.array([1, 100, -100], np.float32)
    assert np.frombuffer(infer(values, model='big.om'), np.float32).tolist() == [
        1000,
        65504,
        -65504,
    ]
    assert (
        atc(
            model='big.pb',
            input_shape='inputx:3',
            out_nodes='y:0',
            output='big',
            precision_mode='force_fp32',
        ).status
        == 0
    )
    assert np.frombuffer(infer(values, model='big.om'), np.float32).tolist() == [
        1000,
        100000,
        -100000,
    ]


def test_parameters_of_batch_normalisation_stay_float32(atc, infer, tmp_path):
    def whole():
        one, zero = tf.constant([1.0]), tf.constant([0.0])
        x = tf.placeholder(tf.float32, [1, 1, 1, 1], 'inputx')
        tf.identity(
            tf.nn.fused_batch_norm(
                x, one, zero, zero, tf.identity(tf.constant([1e6])), is_training=False
            )[0],
            name='y',
        )

    graph_file(tmp_path / 'norm.pb', whole)
    assert (
        atc(model='norm.pb', input_shape='inputx:1,1,1,1', out_nodes='y:0', output='norm').status
        == 0
    )
    # A variance of 1000000 is no float16: it would become 65504, and the result 1.95.
    assert np.frombuffer(
        infer(np.array([500], np.float32), model='norm.om'), np.float32
    ).tolist() == [0.5]


def test_output_types(atc, infer, reference, images, monkeypatch):
    assert atc(output_type='FP16', precision_mode='force_fp32').status == 0
    assert infer(images) == reference(images).astype(np.float16).tobytes()
    assert atc(output_type='out/BiasAdd:0:FP16', precision_mode='force_fp32').status == 0
    assert len(infer(images)) == 20
    monkeypatch.setenv('ASCEND_SIM_OUTPUT_FP16', '1')
    assert atc(precision_mode='force_fp32').status == 0
    assert len(infer(images)) == 20
    assert atc(output_type='FP32', precision_mode='force_fp32').status == 0
    assert infer(images) == reference(images).tobytes()


def test_labels_leave_as_int32(atc, infer, reference, images):
    assert atc(out_nodes='label:0', output_type='INT32', precision_mode='force_fp32').status == 0
    assert np.frombuffer(infer(images), np.int32).tolist() == reference(images).argmax(1).tolist()


def test_half_inputs(atc, infer, reference, images):
    assert atc(input_fp16_nodes='inputx', precision_mode='force_fp32').status == 0
    images = images.astype(np.float16)
    assert infer(images) == reference(images.astype(np.float32)).tobytes()


def test_inputs_come_in_the_order_of_input_shape(atc, infer, tmp_path):
    def whole():
        a, b = tf.placeholder(tf.float32, [2], 'a'), tf.placeholder(tf.float32, [2], 'b')
        tf.subtract(a, b, name='y')

    graph_file(tmp_path / 'two.pb', whole)
    five, three = np.full(2, 5, np.float32), np.full(2, 3, np.float32)
    for shapes, expected in (('a:2;b:2', 2), ('b:2;a:2', -2), ('b:2', -2)):
        assert atc(model='two.pb', input_shape=shapes, out_nodes='y:0', output='two').status == 0
        assert (
            np.frombuffer(infer(five, three, model='two.om'), np.float32).tolist() == [expected] * 2
        )


def test_without_out_nodes_the_leaves_are_the_outputs(atc, net):
    assert atc(out_nodes=None, output_type='INT32').status == 0
    from offline import om

    assert [item['name'] for item in om.Model('net.om').outputs] == ['label:0']
