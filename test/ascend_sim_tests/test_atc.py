"""The stand-in for atc: what it prints and refuses, and the numbers of its models."""

import re

import numpy as np
import pytest
import tensorflow as tf

START = 'ATC start working now, please wait for a moment.'
SUCCESS = 'ATC run success, welcome to the next use.'
FAILED = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"
BIAS = 'out/BiasAdd:0'


def code(result):
    """The error code of a refusal, whose text must have the tool's form."""
    assert result.status == 255 and result.lines[:2] == [START, FAILED], result.out
    return re.match(r'(E\w{4,5}): ', result.lines[2]).group(1)


@pytest.fixture
def images():
    return np.random.RandomState(1).normal(0, 1, (2, 8, 8, 3)).astype(np.float32)


def test_success_prints_two_lines_and_appends_om(command, net, tmp_path):
    done = command(
        'atc',
        '--model=%s' % (net / 'net.pb'),
        '--framework=3',
        '--input_shape=inputx:2,8,8,3',
        '--out_nodes=' + BIAS,
        '--output=made/by/net.om',
        '--soc_version=Ascend310',
    )
    assert done.returncode == 0 and done.stderr == ''
    assert done.stdout.split('\n')[:2] == [START, SUCCESS]
    assert [path.name for path in (tmp_path / 'made' / 'by').iterdir()] == ['net.om.om']


@pytest.mark.parametrize(
    'words, error',
    [
        (['--xyz=1', '--model=a'], "ERROR: unknown command line flag 'xyz'\n"),
        (['--model'], "ERROR: flag 'model' is missing its argument\n"),
    ],
)
def test_flags_that_cannot_be_read(atc, words, error):
    result = atc(*words)
    assert (result.status, result.lines, result.err) == (1, [START], error)


def test_new_cann_stamps_its_errors(atc, monkeypatch):
    monkeypatch.setenv('ASCEND_SIM_NEW_CANN', '1')
    assert re.match(
        r'E10007: \[PID: \d+\] \d{4}-\d\d-\d\d-\d\d:\d\d:\d\d\.\d{3}\.\d{3} \[--framework\] is',
        atc(framework=9).lines[2],
    )


@pytest.mark.parametrize(
    'expected, changes',
    [
        ('E10007', dict(framework=-1)),
        ('E10055', dict(framework=5)),
        ('E10054', dict(soc_version='')),
        ('E20101', dict(soc_version='Ascend911')),
        ('E20101', dict(soc_version='Ascend910')),
        ('E10001', dict(model='missing.pb')),
        ('E10001', dict(output='my net')),
        ('E10001', dict(precision_mode='half')),
        ('E10001', dict(precision_mode='origin')),  # a word of precision_mode_v2
        ('E10056', dict(precision_mode='force_fp32', precision_mode_v2='origin')),
        ('E10001', dict(output_type='FP8')),
        ('E10001', dict(out_nodes='out/BiasAdd')),
        ('E10016', dict(out_nodes='out/BiasAd:0')),
        ('E10016', dict(input_shape='input:2,8,8,3')),
        ('E10017', dict(input_shape='kernel:3,3,3,4;inputx:2,8,8,3')),
        ('E10002', dict(input_shape='inputx:2,8.0,8,3')),
        ('E10002', dict(input_shape='inputx:-1,8,8,3')),
        ('E10049', dict(input_shape='inputx:2,8,8')),
    ],
)
def test_refusals(atc, expected, changes):
    assert code(atc(**changes)) == expected


@pytest.mark.parametrize(
    'expected, content',
    [
        ('E19015', b''),
        ('E19005', b'\x0a\xff\xff\xff\xff\xff'),
        ('E10041', tf.GraphDef(version=1).SerializeToString()),
    ],
)
def test_files_that_are_not_graphs(atc, tmp_path, expected, content):
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
    assert code(result) == 'E19010' and re.search(r'Op \[\w+, optype \[VariableV2\]\]', result.out)


@pytest.mark.parametrize(
    'expected, build',
    [
        ('E19010', lambda x: x + tf.get_variable('v', [2], use_resource=True)),
        ('E19010', lambda x: x + tf.reshape(tf.FIFOQueue(2, tf.float32).dequeue(), [2])),
        ('E19010', lambda x: tf.py_func(lambda a: a, [x], tf.float32)),
        ('E19010', lambda x: tf.Print(x, [x])),
        ('E12029', lambda x: tf.function(tf.nn.relu)(x)),
    ],
)
def test_operations_of_the_host(atc, tmp_path, expected, build):
    def whole():
        tf.identity(build(tf.placeholder(tf.float32, [2], 'inputx')), name='y')

    graph_file(tmp_path / 'host.pb', whole)
    assert code(atc(model='host.pb', input_shape='inputx:2', out_nodes='y:0')) == expected


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
def test_float32_modes_are_exact(atc, infer, reference, images, flags, assert_same):
    assert atc(**flags).status == 0
    assert_same(infer(images), reference(images).ravel())


def is_half(array):
    return np.array_equal(array, array.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize('flags', [{}, dict(precision_mode='allow_fp32_to_fp16')], ids=str)
def test_rounding(atc, infer, reference, images, flags):
    """By default every tensor is rounded; allow_fp32_to_fp16 rounds what the matrix unit takes."""
    assert atc(**flags).status == 0
    result, expected = infer(images), reference(images).ravel()
    assert not np.array_equal(result, expected) and is_half(result) == (not flags)
    np.testing.assert_allclose(result, expected, rtol=0, atol=4e-3)


@pytest.mark.parametrize('mode, largest', [('force_fp16', 65504), ('force_fp32', 100000)])
def test_half_saturates(atc, infer, tmp_path, mode, largest):
    graph_file(
        tmp_path / 'big.pb',
        lambda: tf.multiply(tf.placeholder(tf.float32, [3], 'inputx'), 1000.0, name='y'),
    )
    flags = dict(model='big.pb', input_shape='inputx:3', out_nodes='y:0', precision_mode=mode)
    assert atc(**flags).status == 0
    values = np.array([1, 100, -100], np.float32)
    assert infer(values).tolist() == [1000, largest, -largest]


def test_parameters_of_batch_normalisation_stay_float32(atc, infer, tmp_path):
    def whole():
        x = tf.placeholder(tf.float32, [1, 1, 1, 1], 'inputx')
        one, zero, large = (tf.constant([value]) for value in (1.0, 0.0, 1e6))
        normed = tf.nn.fused_batch_norm(x, one, zero, zero, tf.identity(large), is_training=False)
        tf.identity(normed[0], name='y')

    graph_file(tmp_path / 'norm.pb', whole)
    assert atc(model='norm.pb', input_shape='inputx:1,1,1,1', out_nodes='y:0').status == 0
    # float16 does not hold a variance of 1000000: it would become 65504, and the result 1.95.
    assert infer(np.array([500], np.float32)).tolist() == [0.5]


def test_inputs_come_in_the_order_of_input_shape(atc, infer, tmp_path):
    def whole():
        a, b = tf.placeholder(tf.float32, [2], 'a'), tf.placeholder(tf.float32, [2], 'b')
        tf.subtract(a, b, name='y')

    graph_file(tmp_path / 'two.pb', whole)
    five, three = np.full(2, 5, np.float32), np.full(2, 3, np.float32)
    for shapes, expected in (('a:2;b:2', 2), ('b:2;a:2', -2)):
        assert atc(model='two.pb', input_shape=shapes, out_nodes='y:0').status == 0
        assert infer(five, three).tolist() == [expected] * 2


# AIPP

HEAD = 'aipp_mode: static\n input_format: RGB888_U8\n'
IMAGENET = HEAD + ''.join(
    'min_chn_%d: %s\n var_reci_chn_%d: %s\n' % item
    for item in (
        (0, 123.675, 0, 0.0171247538),
        (1, 116.28, 1, 0.0175070028),
        (2, 103.53, 2, 0.0174291939),
    )
)


@pytest.fixture
def with_aipp(atc, tmp_path):
    """with_aipp(fields, flag=value, ...): atc with one aipp_op of these fields."""

    def call(text, **flags):
        (tmp_path / 'aipp.cfg').write_text('# images\naipp_op {\n %s\n}\n' % text)
        return atc(insert_op_conf='aipp.cfg', **flags)

    return call


@pytest.mark.parametrize(
    'expected, fields',
    [
        ('E19018', 'aipp_mode: static input_format: RGB888_U8 mean_chn_0: 127.5'),
        ('E19018', HEAD + 'mean_chan_0: 1'),
        ('E19018', HEAD + 'mean_chn_0: 0 mean_chn_0: 0'),
        ('E19018', HEAD + 'crop: maybe'),
        ('E19018', 'aipp_mode: static input_format: RGB'),
        ('E10052', 'input_format: RGB888_U8'),
        ('E10052', 'aipp_mode: static'),
        ('E10052', HEAD + 'var_reci_chn_1: 70000'),
        ('E10052', HEAD + 'src_image_size_w: 16 src_image_size_h: 16'),
        ('E10055', 'aipp_mode: static input_format: YUV420SP_U8'),
        ('E10055', HEAD + 'csc_switch: true'),
    ],
)
def test_aipp_refusals(with_aipp, expected, fields):
    assert code(with_aipp(fields)) == expected


@pytest.mark.parametrize(
    'fields, normalise',
    [
        (IMAGENET, lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        (HEAD + 'mean_chn_0: 100 min_chn_0: 0.5', lambda x: x - [100.5, 0, 0]),
        (HEAD + 'rbuv_swap_switch: true mean_chn_0: 7', lambda x: x[..., ::-1] - [7, 0, 0]),
    ],
)
def test_aipp_is_the_normalisation_in_float16(with_aipp, infer, reference, fields, normalise):
    images = np.random.RandomState(2).randint(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    assert with_aipp(fields, precision_mode='force_fp32').status == 0
    expected = reference(normalise(images.astype(np.float64)).astype(np.float16).astype('f'))
    np.testing.assert_allclose(infer(images), expected.ravel(), rtol=1e-3, atol=1e-3)
