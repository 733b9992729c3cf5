"""AIPP, the pre-processing of images in hardware: reads its configuration strictly and does what it
says.

Order, as on the device: channel swap, crop, (value - mean - min) * var_reci, padding. The device's
result is float16.
"""

from typing import Any, Dict, List

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from offline.errors import AtcError, unsupported

_INT32, _FLOAT, _BOOL, _STRING, _UINT32, _ENUM, _MESSAGE = (
    5,
    2,
    8,
    9,
    13,
    14,
    11,
)  # FieldDescriptorProto.Type
_FIELDS = {
    _UINT32: 'related_input_rank max_src_image_size raw_rgbir_to_f16_n',
    _BOOL: (
        'support_rotation csc_switch rbuv_swap_switch ax_swap_switch single_line_mode crop resize'
        ' padding'
    ),
    _STRING: 'related_input_name',
    _FLOAT: 'cpadding_value padding_value min_chn_0 min_chn_1 min_chn_2 min_chn_3',
    _INT32: (
        'src_image_size_w src_image_size_h load_start_pos_w load_start_pos_h crop_size_w'
        ' crop_size_h resize_output_w resize_output_h left_padding_size right_padding_size'
        ' top_padding_size bottom_padding_size mean_chn_0 mean_chn_1 mean_chn_2 mean_chn_3'
    ),
}
# Repeated in the schema, yet allowed once: atc reads a second one and then refuses it by name.
_ONCE = {
    _UINT32: 'input_edge_idx',
    _FLOAT: 'var_reci_chn_0 var_reci_chn_1 var_reci_chn_2 var_reci_chn_3',
    _INT32: ' '.join('matrix_r%dc%d' % (row, column) for row in range(3) for column in range(3))
    + ' input_bias_0 input_bias_1 input_bias_2 output_bias_0 output_bias_1 output_bias_2',
}
_ENUMS = {
    'aipp_mode': ('undefined', 'static', 'dynamic'),
    'input_format': (
        'UNDEFINED',
        'YUV420SP_U8',
        'XRGB8888_U8',
        'RGB888_U8',
        'YUV400_U8',
        'NC1HWC0DI_FP16',
        'NC1HWC0DI_S8',
        'ARGB8888_U8',
        'YUYV_U8',
        'YUV422SP_U8',
        'AYUV444_U8',
        'RAW10',
        'RAW12',
        'RAW16',
        'RAW24',
        'RGB16',
        'RGB20',
        'RGB24',
        'RGB8_IR',
        'RGB16_IR',
        'RGB24_IR',
    ),
}
_CHANNELS = {'RGB888_U8': 3, 'YUV400_U8': 1}


def _schema():
    """The protobuf class of a configuration file. proto2, so that a field given twice is an error
    even if it is 0.
    """
    file = descriptor_pb2.FileDescriptorProto(name='aipp.proto', package='aipp', syntax='proto2')
    operation = file.message_type.add(name='AippOpParams')

    def add(name, kind, label, type_name=None):
        operation.field.add(
            name=name, number=len(operation.field) + 1, type=kind, label=label, type_name=type_name
        )

    for fields, label in ((_FIELDS, 1), (_ONCE, 3)):
        for kind, names in fields.items():
            for name in names.split():
                add(name, kind, label)
    for name, values in _ENUMS.items():
        enum = operation.enum_type.add(name=name + '_values')
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
        add(name, _ENUM, 1, '.aipp.AippOpParams.%s_values' % name)
    file.message_type.add(name='InsertNewOps').field.add(
        name='aipp_op', number=1, label=3, type=_MESSAGE, type_name='.aipp.AippOpParams'
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.MessageFactory(pool).GetPrototype(
        pool.FindMessageTypeByName('aipp.InsertNewOps')
    )


def _plain(operation) -> Dict[str, Any]:
    """Every field of the message with its value or its default; a value of `_ONCE` is None if it is
    not given.
    """
    values = {}
    for field in operation.DESCRIPTOR.fields:
        value = getattr(operation, field.name)
        if field.label == field.LABEL_REPEATED:
            if len(value) > 1:
                raise AtcError(
                    'E10052', 'The parameter %s can not be configed repeatedly' % field.name
                )
            value = value[0] if value else None
        elif field.enum_type:
            value = field.enum_type.values_by_number[value].name
        values[field.name] = value
    return values


def _check(values: Dict[str, Any]) -> None:
    if values['aipp_mode'] == 'undefined':
        raise AtcError(
            'E10052', 'When insert AIPP op, aipp_mode must be configured as static or dynamic'
        )
    if values['aipp_mode'] == 'dynamic':
        if not values['max_src_image_size']:
            raise AtcError('E10052', 'max_src_image_size must be greater than 0 in dynamic mode')
        raise unsupported('dynamic AIPP')
    if values['input_format'] == 'UNDEFINED':
        raise AtcError('E10052', 'Input format of AIPP conf is undefined')
    for name, value in values.items():
        if name.endswith(('size_w', 'size_h', 'pos_w', 'pos_h', 'padding_size')) and value < 0:
            raise AtcError('E10052', '%s must not be smaller than 0, but is %d' % (name, value))
        if name.startswith('var_reci') and value is not None and not abs(value) <= 65504:
            raise AtcError('E10052', '%s is %g, outside [-65504, 65504]' % (name, value))
    for name in (
        'csc_switch',
        'ax_swap_switch',
        'single_line_mode',
        'resize',
        'input_edge_idx',
        'raw_rgbir_to_f16_n',
    ):
        if values[name]:
            raise unsupported('%s of AIPP' % name)
    if values['input_format'] not in _CHANNELS:
        raise unsupported('AIPP with input_format %s' % values['input_format'])


def read(path: str) -> List[Dict[str, Any]]:
    """The operations of a configuration file, each {field: value}. Raises AtcError: E19018 for what
    is no such file, else E10052.
    """
    message = _schema()()
    try:
        with open(path, encoding='utf-8') as file:
            text_format.Parse(file.read(), message)
    except (text_format.ParseError, UnicodeDecodeError):
        raise AtcError('E19018', path) from None
    operations = [_plain(operation) for operation in message.aipp_op]
    for operation in operations:
        _check(operation)
    inputs = [
        operation['related_input_name'] or operation['related_input_rank']
        for operation in operations
    ]
    if len(set(inputs)) != len(inputs):
        raise AtcError('E10052', 'two operations are meant for the same input')
    return operations


def fit(operation: Dict[str, Any], shape: List[int], dtype: str, layout: str) -> List[int]:
    """Shape [N, height, width, channels] of the uint8 input that the operation takes to make the
    model's input `shape`.
    """
    if len(shape) != 4 or dtype not in ('float32', 'float16') or layout != 'NHWC':
        raise AtcError(
            'E10052',
            'AIPP needs a floating-point input of 4 dimensions in NHWC, this one is %s %s in %s'
            % (dtype, shape, layout),
        )
    channels = _CHANNELS[operation['input_format']]
    if shape[3] != channels:
        raise AtcError(
            'E10052',
            '%s gives %d channels, the model wants %d'
            % (operation['input_format'], channels, shape[3]),
        )
    source = []
    for axis, sides, wanted in (
        ('h', ('top', 'bottom'), shape[1]),
        ('w', ('left', 'right'), shape[2]),
    ):
        padding = (
            sum(operation[side + '_padding_size'] for side in sides) if operation['padding'] else 0
        )
        start, size = (
            (operation['load_start_pos_' + axis], operation['crop_size_' + axis])
            if operation['crop']
            else (0, 0)
        )
        given = operation['src_image_size_' + axis] or wanted
        size = size or given - start
        if start + size > given:
            raise AtcError(
                'E10052', 'the crop ends at %d, the image at %d (%s)' % (start + size, given, axis)
            )
        if size + padding != wanted:
            raise AtcError(
                'E10052',
                'AIPP makes images of %d, the model wants %d (%s)' % (size + padding, wanted, axis),
            )
        source.append(given)
    return [shape[0]] + source + [channels]


def apply(operation: Dict[str, Any], images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, height, width, channels] as the model sees them: float32 with float16's
    values.
    """
    if operation['rbuv_swap_switch']:
        images = images[..., ::-1]
    if operation['crop']:
        top, left = operation['load_start_pos_h'], operation['load_start_pos_w']
        images = images[
            :,
            top : top + operation['crop_size_h'] if operation['crop_size_h'] else None,
            left : left + operation['crop_size_w'] if operation['crop_size_w'] else None,
        ]

    def channel(name):
        values = [operation['%s_%d' % (name, index)] for index in range(images.shape[3])]
        return np.array([1 if value is None else value for value in values], np.float32)

    result = (images.astype(np.float32) - channel('mean_chn') - channel('min_chn')) * channel(
        'var_reci_chn'
    )
    if operation['padding']:
        sides = [
            (operation[a + '_padding_size'], operation[b + '_padding_size'])
            for a, b in (('top', 'bottom'), ('left', 'right'))
        ]
        result = np.pad(
            result,
            [(0, 0)] + sides + [(0, 0)],
            mode='constant',
            constant_values=operation['padding_value'],
        )
    return np.clip(result, -65504, 65504).astype(np.float16).astype(np.float32)
