"""AIPP configuration: the normalisation moves from the host into the device's image hardware, and
the model takes uint8 images.
"""

from common.errors import UserError
from common.task import Task

FORMATS = {3: 'RGB888_U8', 1: 'YUV400_U8'}


def text(task: Task) -> str:
    """The configuration file for `atc --insert_op_conf`.

    AIPP computes (value - mean_chn - min_chn) * var_reci_chn for each channel. mean_chn is a whole
    number, so the mean goes into
    min_chn: 127.5 stays 127.5. Raises UserError where the normalisation is not of that form (per
    image), or out of AIPP's range.
    """
    constants = task.affine_normalization()
    if constants is None:
        raise UserError(
            '--input_dtype uint8: %s has no constants for its normalisation'
            ' (Task.affine_normalization), and AIPP cannot compute those of each image; give'
            ' --input_dtype float32' % task.name
        )
    height, width, channels = task.input_shape
    if channels not in FORMATS:
        raise UserError(
            '--input_dtype uint8: AIPP takes images of 3 channels or 1, %s takes %d; give'
            ' --input_dtype float32' % (task.name, channels)
        )
    lines = [
        'aipp_op {',
        '  aipp_mode: static',
        '  input_format: %s' % FORMATS[channels],
        '  src_image_size_w: %d' % width,
        '  src_image_size_h: %d' % height,
        '  csc_switch: false',
        '  rbuv_swap_switch: %s' % str(task.swap_channels).lower(),
    ]
    for channel, (mean, deviation) in enumerate(zip(*constants)):
        if not abs(1 / deviation) <= 65504:
            raise UserError(
                '--input_dtype uint8: a deviation of %g is too small for AIPP (1/deviation at most'
                ' 65504)' % deviation
            )
        lines += [
            '  mean_chn_%d: 0' % channel,
            '  min_chn_%d: %.15g' % (channel, mean),
            '  var_reci_chn_%d: %.15g' % (channel, 1 / deviation),
        ]
    return '\n'.join(lines + ['}', ''])
