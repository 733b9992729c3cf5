"""AIPP, the pre-processing of images in hardware: reads its configuration strictly and does what it
says, (value - mean - min) * var_reci. The result is float16, as on the device.
"""

from typing import Any, Dict, List

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from offline.errors import AtcError, unsupported

_CHANNELS = range(3)
# FieldDescriptorProto.Type -> fields of aipp_op. Others of the real schema are unknown here.
_FIELDS = {
    descriptor_pb2.FieldDescriptorProto.TYPE_INT32: [
        'related_input_rank',
        'src_image_size_w',
        'src_image_size_h',
    ]
    + ['mean_chn_%d' % channel for channel in _CHANNELS],
    descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT: ['min_chn_%d' % c for c in _CHANNELS]
    + ['var_reci_chn_%d' % channel for channel in _CHANNELS],
    descriptor_pb2.FieldDescriptorProto.TYPE_BOOL: ['csc_switch', 'rbuv_swap_switch', 'crop'],
}
_ENUMS = {
    'aipp_mode': ('undefined', 'static', 'dynamic'),
    'input_format': ('UNDEFINED', 'YUV420SP_U8', 'XRGB8888_U8', 'RGB888_U8', 'YUV400_U8'),
}


def _schema():
    """The protobuf class of a configuration file. proto2, so that a field given twice is an error
    even if it is 0.
    """
    file = descriptor_pb2.FileDescriptorProto(name='aipp.proto', package='aipp', syntax='proto2')
    operation = file.message_type.add(name='AippOpParams')
    field = descriptor_pb2.FieldDescriptorProto

    def add(name, kind, **more):
        operation.field.add(
            name=name,
            number=len(operation.field) + 1,
            type=kind,
            label=field.LABEL_OPTIONAL,
            **more,
        )

    for kind, names in _FIELDS.items():
        for name in names:
            add(name, kind)
    for name, values in _ENUMS.items():
        enum = operation.enum_type.add(name=name + '_values')
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
        add(name, field.TYPE_ENUM, type_name='.aipp.AippOpParams.%s_values' % name)
    file.message_type.add(name='InsertNewOps').field.add(
        name='aipp_op',
        number=1,
        label=field.LABEL_REPEATED,
        type=field.TYPE_MESSAGE,
        type_name='.aipp.AippOpParams',
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.MessageFactory(pool).GetPrototype(
        pool.FindMessageTypeByName('aipp.InsertNewOps')
    )


def read(path: str) -> Dict[str, Any]:
    """{field: value} of the one operation of a configuration file; a reciprocal that is not given
    is 1. Raises AtcError: E19018 for a file that is not such a configuration, else E10052.
    """
    message = _schema()()
    try:
        with open(path, encoding='utf-8') as file:
            text_format.Parse(file.read(), message)
    except (text_format.ParseError, UnicodeDecodeError):
        raise AtcError('E19018', path) from None
    if len(message.aipp_op) != 1:
        raise unsupported('%d operations of AIPP' % len(message.aipp_op))
    (operation,) = message.aipp_op
    if operation.aipp_mode != 1:
        raise AtcError('E10052', 'aipp_mode must be static here')
    if not operation.input_format:
        raise AtcError('E10052', 'Input format of AIPP conf is undefined')
    if operation.input_format != 3 or operation.csc_switch or operation.crop:
        raise unsupported('AIPP beyond RGB888_U8, rbuv_swap_switch and normalisation')
    values = {field.name: getattr(operation, field.name) for field in operation.DESCRIPTOR.fields}
    for name in [name for name in values if name.startswith('var_reci')]:
        if not operation.HasField(name):
            values[name] = 1.0
        if not abs(values[name]) <= 65504:
            raise AtcError('E10052', '%s is %g, outside [-65504, 65504]' % (name, values[name]))
    return values


def check(operation: Dict[str, Any], shape: List[int], dtype: str) -> None:
    """Raises AtcError unless the operation makes the model's input of this shape and dtype."""
    if len(shape) != 4 or dtype != 'float32' or shape[3] != 3:
        raise AtcError(
            'E10052', 'RGB888_U8 gives NHWC float32, the input is %s %s' % (dtype, shape)
        )
    source = [operation['src_image_size_h'], operation['src_image_size_w']]
    if any(size not in (0, wanted) for size, wanted in zip(source, shape[1:3])):
        raise AtcError('E10052', 'AIPP makes images of %s, the model wants %s' % (source, shape))


def apply(operation: Dict[str, Any], images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, height, width, 3] as the model sees them: float32 with float16's values."""
    if operation['rbuv_swap_switch']:
        images = images[..., ::-1]

    def constants(name):
        return np.array([operation['%s_%d' % (name, c)] for c in _CHANNELS], np.float32)

    result = images.astype(np.float32) - constants('mean_chn') - constants('min_chn')
    result = np.clip(result * constants('var_reci_chn'), -65504, 65504)
    return result.astype(np.float16).astype(np.float32)
