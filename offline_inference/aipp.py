"""AIPP configuration: normalisation moves from the host to the device's image hardware, and the
model takes uint8 RGB images.
"""

from common.errors import UserError
from offline_inference.reference import Reference

LARGEST = 65504  # of var_reci_chn, which is float16


def text(reference: Reference) -> str:
    """The configuration file for `atc --insert_op_conf`.

    For each channel AIPP computes (value - mean_chn - min_chn) * var_reci_chn. mean_chn is a whole
    number, so the mean goes into min_chn: 127.5 stays 127.5. Raises UserError where normalisation
    does not have this form (per image), or exceeds AIPP's range.
    """
    _, height, width, channels = reference.input_shape
    if reference.normalization is None or channels != 3:
        raise UserError(
            '--input_dtype uint8: AIPP normalises RGB images by one mean and deviation for each'
            ' channel, which is not how %s normalises %d channels here; give --input_dtype float32'
            % (reference.name, channels)
        )
    lines = [
        'aipp_op {',
        '  aipp_mode: static',
        '  input_format: RGB888_U8',
        '  src_image_size_w: %d' % width,
        '  src_image_size_h: %d' % height,
        '  csc_switch: false',
        '  rbuv_swap_switch: false',
    ]
    for channel, (mean, deviation) in enumerate(zip(*reference.normalization)):
        if not abs(1 / deviation) <= LARGEST:
            raise UserError(
                '--input_dtype uint8: a deviation of %g is too small for AIPP (1/deviation is at'
                ' most %d); give --input_dtype float32' % (deviation, LARGEST)
            )
        lines += [
            '  mean_chn_%d: 0' % channel,
            '  min_chn_%d: %.15g' % (channel, mean),
            '  var_reci_chn_%d: %.15g' % (channel, 1 / deviation),
        ]
    return '\n'.join(lines + ['}', ''])
