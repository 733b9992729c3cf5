"""AIPP in the stand-in for atc: configurations that are refused, and images against the
normalisation in floating point.
"""

import numpy as np
import pytest

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
def convert(atc, tmp_path):
    """convert(fields, flag=value, ...): atc with one aipp_op of these fields."""

    def call(text, whole=False, **flags):
        (tmp_path / 'aipp.cfg').write_text(
            text if whole else '# images\naipp_op {\n %s\n}\n' % text
        )
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
        ('E19018', 'aipp_mode = static'),
        ('E10052', 'input_format: RGB888_U8'),
        ('E10052', 'aipp_mode: static'),
        ('E10052', 'aipp_mode: dynamic'),
        ('E10055', 'aipp_mode: dynamic max_src_image_size: 1000'),
        ('E10052', HEAD + 'var_reci_chn_0: 1 var_reci_chn_0: 1'),
        ('E10052', HEAD + 'var_reci_chn_1: 70000'),
        ('E10052', HEAD + 'crop: true load_start_pos_w: -1'),
        ('E10052', HEAD + 'related_input_rank: 1'),
        ('E10052', HEAD + 'related_input_name: "images"'),
        ('E10052', HEAD + 'src_image_size_w: 16 src_image_size_h: 16'),
        (
            'E10052',
            HEAD
            + 'src_image_size_w: 9 src_image_size_h: 9 crop: true load_start_pos_w: 2 crop_size_w:'
            ' 8 crop_size_h: 8',
        ),
        ('E10052', 'aipp_mode: static input_format: YUV400_U8'),
        ('E10055', 'aipp_mode: static input_format: YUV420SP_U8'),
        ('E10055', HEAD + 'csc_switch: true'),
    ],
)
def test_refusals(convert, expected, fields):
    result = convert(fields)
    assert (result.status, result.lines[2][:6]) == (255, expected)


def test_more_refusals(convert):
    assert 'E10034' in convert(IMAGENET, input_fp16_nodes='inputx').out
    assert 'E10052' in convert(IMAGENET, input_format='NCHW').out
    assert 'E10052' in convert('aipp_op { %s }\naipp_op { %s }' % (HEAD, HEAD), whole=True).out
    assert 'E19018' in convert('aipp { }', whole=True).out


@pytest.fixture
def images():
    return np.random.RandomState(2).randint(0, 256, (2, 8, 8, 3)).astype(np.uint8)


def half(array):
    return np.asarray(array, np.float32).astype(np.float16).astype(np.float32)


@pytest.mark.parametrize(
    'fields, normalise',
    [
        (IMAGENET, lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]),
        (
            HEAD
            + ''.join(
                'min_chn_%d: 127.5 var_reci_chn_%d: 0.00784313725490196 ' % (i, i) for i in range(3)
            ),
            lambda x: x / 127.5 - 1,
        ),
        (HEAD + 'mean_chn_0: 100 min_chn_0: 0.5', lambda x: x - [100.5, 0, 0]),
        (HEAD + 'rbuv_swap_switch: true mean_chn_0: 7', lambda x: x[..., ::-1] - [7, 0, 0]),
    ],
)
def test_equals_the_normalisation_in_floating_point(
    convert, infer, reference, images, fields, normalise
):
    assert convert(fields, precision_mode='force_fp32').status == 0
    expected = reference(half(normalise(images.astype(np.float64))))
    np.testing.assert_allclose(
        np.frombuffer(infer(images), np.float32).reshape(2, 5), expected, rtol=1e-3, atol=1e-3
    )


def test_crops_then_pads(convert, infer, reference):
    source = np.random.RandomState(3).randint(0, 256, (2, 12, 10, 3)).astype(np.uint8)
    assert (
        convert(
            HEAD + 'src_image_size_h: 12 src_image_size_w: 10 crop: true load_start_pos_h: 4'
            ' load_start_pos_w: 1 crop_size_h: 6 crop_size_w: 7 mean_chn_0: 9 padding: true'
            ' top_padding_size: 2 left_padding_size: 1 padding_value: 3',
            precision_mode='force_fp32',
        ).status
        == 0
    )
    expected = np.full((2, 8, 8, 3), 3, np.float32)
    expected[:, 2:, 1:] = source[:, 4:10, 1:8].astype(np.float32) - [9, 0, 0]
    assert infer(source) == reference(expected).tobytes()


def test_input_shrinks_to_bytes(convert, msame, images, tmp_path):
    assert convert(IMAGENET).status == 0
    images.astype(np.float32).tofile(str(tmp_path / 'float.bin'))
    result = msame(
        '--model', 'net.om', '--input', 'float.bin', '--output', 'out', '--debug', 'true'
    )
    assert (
        '[DEBUG] the size of 0 input: 384' in result.lines
        and '[DEBUG] the DataType of 0 input: 4' in result.lines
    )
