"""What atc checks in its flags before it opens the model, in its order. Needs no TensorFlow."""

import os
import re
from typing import Any, Dict, List, Optional, Tuple

from offline import flags as command_line
from offline.errors import AtcError, unsupported

FORMATS = ('NCHW', 'NHWC', 'ND', 'NCDHW', 'NDHWC')
PRECISION_MODES = (
    'force_fp16',
    'force_fp32',
    'cube_fp16in_fp32out',
    'allow_mix_precision',
    'allow_fp32_to_fp16',
    'must_keep_origin_dtype',
    'allow_mix_precision_fp16',
    'allow_mix_precision_bf16',
    'allow_fp32_to_bf16',
)
PRECISION_MODES_V2 = ('fp16', 'origin', 'cube_fp16in_fp32out', 'mixed_float16', 'mixed_bfloat16')
OUTPUT_TYPES = {
    'FP32': 'float32',
    'FP16': 'float16',
    'UINT8': 'uint8',
    'INT8': 'int8',
    'INT16': 'int16',
    'UINT16': 'uint16',
    'INT32': 'int32',
    'UINT32': 'uint32',
    'INT64': 'int64',
    'UINT64': 'uint64',
    'DOUBLE': 'float64',
}
CHIPS = re.compile(
    r'Ascend(310|310P[1-7]|310B[1-4]|610|910A|910B|910ProA|910ProB|910PremiumA|910B[1-4](C|-1)?|910_93\d\d)\Z'
)
LEGAL_PATH = re.compile('[\u4e00-\u9fa5A-Za-z0-9./_-]+\\Z')
PATH_REASON = "The path can only contain 'a-z' 'A-Z' '0-9' '-' '.' '_' and chinese character"
# Flags that change the model's numbers or inputs in ways the stand-in does not know: flag -> value
# that changes nothing.
UNMODELLED = dict(
    singleop='',
    cal_conf='',
    compression_optimize_conf='',
    compress_weight_conf='',
    enable_compress_weight='false',
    op_name_map='',
    is_input_adjust_hw_layout='',
    is_output_adjust_hw_layout='',
    input_shape_range='',
    external_weight='0',
    sparsity=0,
    customize_dtypes='',
)

Shapes = List[Tuple[str, List[int]]]


def input_path(value: str, flag: str) -> None:
    """A file that is to be read: it exists, and its real path holds letters, digits and ./_- only."""
    if not os.path.exists(value):
        raise AtcError(
            'E10001', value, '--' + flag, 'realpath error, errmsg:No such file or directory'
        )
    if not LEGAL_PATH.match(os.path.realpath(value)):
        raise AtcError('E10001', value, '--' + flag, PATH_REASON)
    if not os.access(value, os.R_OK) or os.path.isdir(value):
        raise AtcError('E10001', value, '--' + flag, 'cat not access, errmsg:Permission denied')


def output_path(value: str, flag: str) -> None:
    """A file that is to be written; its folder is made, with its parents."""
    if len(value) >= 4096:
        raise AtcError('E10021', flag, 4096)
    if not LEGAL_PATH.match(value):
        raise AtcError('E10001', value, '--' + flag, PATH_REASON)
    try:
        os.makedirs(os.path.dirname(value) or '.', exist_ok=True)
    except OSError:
        raise AtcError('E10001', value, '--' + flag, 'Can not create directory') from None
    if not os.access(value if os.path.exists(value) else os.path.dirname(value) or '.', os.W_OK):
        raise AtcError('E10001', value, '--' + flag, 'cat not access, errmsg:Permission denied')


def _one_of(values: Dict[str, Any], flag: str, legal: Tuple[str, ...]) -> None:
    if values.get(flag) and values[flag] not in legal:
        raise AtcError('E10001', values[flag], '--' + flag, 'only support ' + ', '.join(legal))


def precision(values: Dict[str, Any]) -> str:
    """'half' (every tensor), 'cube' (what enters convolutions and matrix products) or 'float'."""
    _one_of(values, 'precision_mode', PRECISION_MODES)
    _one_of(values, 'precision_mode_v2', PRECISION_MODES_V2)
    if values.get('precision_mode_v2') and 'precision_mode' in values['']:
        raise AtcError('E10056', '--precision_mode', '--precision_mode_v2')
    mode = values.get('precision_mode_v2') or values['precision_mode'] or 'force_fp16'
    flag = '--precision_mode_v2' if values.get('precision_mode_v2') else '--precision_mode'
    if 'bf' in mode:
        raise AtcError(
            'E10001', mode, flag, 'bfloat16 is not supported on %s' % values['soc_version']
        )
    if values['modify_mixlist'] and mode not in (
        'allow_mix_precision',
        'allow_mix_precision_fp16',
        'mixed_float16',
    ):
        raise AtcError(
            'E10001',
            values['modify_mixlist'],
            '--modify_mixlist',
            'it needs a mixed precision mode, not %s' % mode,
        )
    if mode in ('force_fp32', 'must_keep_origin_dtype', 'origin'):
        return 'float'
    return 'cube' if mode in ('cube_fp16in_fp32out', 'allow_fp32_to_fp16') else 'half'


def input_shapes(text: str, dynamic: bool) -> Shapes:
    """[(name, dimensions)] of --input_shape; -1 only with one of the dynamic flags."""
    shapes = []
    for item in text.split(';') if text else []:
        name, colon, numbers = item.rpartition(':')
        if not colon:
            raise AtcError('E10002', item, 'size not equal to 2 split by ":"')
        if not numbers:
            raise AtcError('E10002', item, 'can not be empty')
        shape = []
        for number in numbers.split(','):
            if '.' in number:
                raise AtcError('E10002', item, 'exist float number')
            if not number.strip():
                raise AtcError('E10014', number, 'input_shape')
            if not re.match(r'-?\d+\Z', number.strip()):
                raise AtcError('E10002', item, 'is not digit')
            shape.append(int(number))
            if shape[-1] <= 0 and not (dynamic and shape[-1] == -1):
                raise AtcError('E10011', item, shape[-1])
        shapes.append((name.strip(), shape))
    return shapes


def out_nodes(text: str) -> List[Tuple[str, int]]:
    """[(node, index of its output)] of --out_nodes."""
    nodes = []
    for item in text.split(';') if text else []:
        parts = item.split(':')
        if len(parts) != 2:
            raise AtcError(
                'E10001',
                item,
                '--out_nodes',
                'the correct format is "node_name1:0;node_name1:1;node_name2:0"',
            )
        if not parts[1].strip().isdigit():
            raise AtcError('E10001', text, '--out_nodes', 'index is not positive integer')
        nodes.append((parts[0], int(parts[1])))
    return nodes


def output_types(text: str, nodes: List[Tuple[str, int]]) -> Dict[Optional[Tuple[str, int]], str]:
    """{(node, index): numpy type} of --output_type; the key None stands for all outputs."""
    legal = ('FP32', 'FP16', 'UINT8') if command_line.old_cann() else tuple(OUTPUT_TYPES)

    def numpy_type(name):
        if name not in legal:
            raise AtcError('E10001', name, '--output_type', 'only support ' + ', '.join(legal))
        return OUTPUT_TYPES[name]

    if ':' not in text:
        return {None: numpy_type(text)} if text else {}
    types = {}
    for item in text.split(';'):
        parts = [part.strip() for part in item.split(':')]
        if len(parts) != 3 or not parts[1].isdigit():
            raise AtcError(
                'E10001', item, '--output_type', 'correct sample is "opname:index:dtype"'
            )
        types[parts[0], int(parts[1])] = numpy_type(parts[2])
        if (parts[0], int(parts[1])) not in nodes:
            raise AtcError(
                'E10001',
                '%s:%s' % tuple(parts[:2]),
                '--output_type',
                'The multiple out nodes set in output_type must be found in out_nodes.',
            )
    return types


def gears(values: Dict[str, Any], shapes: Shapes) -> Tuple[Optional[str], List[List[int]]]:
    """(kind, profiles): kind None, 'batch', 'image' or 'dims'; a profile = values of the dimensions
    that are -1.
    """
    kind = next(
        (
            kind
            for kind, flag in (
                ('batch', 'dynamic_batch_size'),
                ('image', 'dynamic_image_size'),
                ('dims', 'dynamic_dims'),
            )
            if values[flag]
        ),
        None,
    )
    if kind is None:
        return None, []
    if not shapes:
        raise AtcError('E10004', 'input_shape')
    flag = {'batch': 'dynamic_batch_size', 'image': 'dynamic_image_size', 'dims': 'dynamic_dims'}[
        kind
    ]
    text = values[flag].rstrip(',' if kind == 'batch' else ';')
    if not re.match(r'[\d, ]+\Z' if kind == 'batch' else r'[\d, ;]+\Z', text):
        raise AtcError('E10003', text, flag, 'only digits and separators')
    if kind == 'batch':
        for _, shape in shapes:
            if -1 in shape[1:] and shape[0] == -1:
                raise AtcError('E10018', shape.index(-1, 1), -1)
        if not any(shape[0] == -1 for _, shape in shapes):
            raise AtcError('E10031')
        profiles = [[int(number)] for number in text.split(',') if number.strip()]
    else:
        profiles = [
            [int(number) for number in item.split(',') if number.strip()]
            for item in text.split(';')
        ]
    if kind == 'image':
        height = 2 if values['input_format'] == 'NCHW' else 1
        free = [shape for _, shape in shapes if -1 in shape]
        if not free or any(
            len(shape) != 4 or [i for i in range(4) if shape[i] == -1] != [height, height + 1]
            for shape in free
        ):
            raise AtcError('E10019')
        if any(len(profile) != 2 for profile in profiles):
            raise AtcError('E10020', text)
    if kind == 'dims':
        if values['input_format'] != 'ND':
            raise AtcError(
                'E10001',
                values['input_format'],
                '--input_format',
                'input_format must be ND when set dynamic_dims',
            )
        if any(not 1 <= len(shape) <= 4 for _, shape in shapes):
            raise AtcError(
                'E10001',
                max(len(shape) for _, shape in shapes),
                "--input_shape's dim",
                'must be within 1 and 4 with dynamic_dims',
            )
        free = sum(shape.count(-1) for _, shape in shapes)
        if not free:
            raise AtcError(
                'E10001',
                0,
                "--input_shape's dynamic dim num",
                'at least one dim should be -1 when set dynamic_dims',
            )
        if any(len(profile) != free for profile in profiles):
            raise AtcError(
                'E10003',
                text,
                flag,
                'each profile needs as many numbers as there are -1 in --input_shape',
            )
    if len(profiles) < 2:
        raise AtcError('E10035', len(profiles))
    if len(profiles) > 100:
        raise AtcError('E10036', len(profiles))
    if min(min(profile) for profile in profiles) <= 0:
        raise AtcError('E10038', min(min(profile) for profile in profiles))
    if len({tuple(profile) for profile in profiles}) != len(profiles):
        raise AtcError('E10039')
    return kind, profiles


def flags(values: Dict[str, Any]) -> None:
    """Everything that can be said without the model, except the shapes; fills in the default of
    input_format.
    """
    values['input_format'] = values['input_format'] or (
        'NHWC' if values['framework'] == 3 else 'NCHW'
    )
    if values['framework'] == 3:
        _one_of(values, 'input_format', FORMATS)
    if values['framework'] not in (0, 1, 3, 5):
        raise AtcError('E10007')
    if values['framework'] == 0 and not values['weight']:
        raise AtcError('E10008')
    for flag in ('soc_version', 'output', 'model'):
        if not values[flag]:
            raise AtcError('E10054', '--' + flag)
    input_path(values['model'], 'model')
    output_path(values['output'] + '.om', 'output')
    if values['output'].endswith('/'):
        raise AtcError('E10022', values['output'], 'output')
    if values['disable_reuse_memory'] not in (0, 1):
        raise AtcError('E10006', values['disable_reuse_memory'], 'disable_reuse_memory')
    if values['optypelist_for_implmode'] and not values['op_select_implmode']:
        raise AtcError(
            'E10001', '', '--op_select_implmode', 'it is needed with --optypelist_for_implmode'
        )
    _one_of(
        values,
        'op_select_implmode',
        (
            'high_precision',
            'high_performance',
            'high_precision_for_all',
            'high_performance_for_all',
        ),
    )
    precision(values)
    if (
        sum(
            bool(values[flag])
            for flag in (
                'dynamic_batch_size',
                'dynamic_image_size',
                'dynamic_dims',
                'input_shape_range',
            )
        )
        > 1
    ):
        raise AtcError('E10009')
    if values['insert_op_conf'] and values['dynamic_dims']:
        raise AtcError(
            'E10001',
            values['insert_op_conf'],
            '--insert_op_conf',
            'dynamic dims function does not support aipp',
        )
    for flag in (
        'insert_op_conf',
        'keep_dtype',
        'modify_mixlist',
        'op_precision_mode',
        'fusion_switch_file',
        'weight',
    ):
        if values[flag]:
            input_path(values[flag], flag)
    output_path(values['check_report'], 'check_report')
    _one_of(values, 'buffer_optimize', ('l2_optimize', 'off_optimize'))
    for flag in ('save_original_model', 'enable_single_stream', 'enable_compress_weight'):
        if values[flag] not in ('', 'true', 'false'):
            raise AtcError('E10005', values[flag], flag)
    for flag in ('display_model_info', 'enable_small_channel'):
        if values[flag] not in ('0', '1'):
            raise AtcError('E10006', values[flag], flag)
    if not CHIPS.match(values['soc_version']) and not (
        command_line.old_cann() and values['soc_version'] == 'Ascend910'
    ):
        raise AtcError(
            'E20101',
            values['soc_version'],
            '--soc_version',
            'there is no such chip; npu-smi info names yours',
        )
    for flag, harmless in UNMODELLED.items():
        if values.get(flag, harmless) != harmless:
            raise unsupported('--%s=%s' % (flag, values[flag]))
    if values['framework'] != 3:
        raise (
            AtcError('E10041', values['model'])
            if values['framework'] == 1
            else unsupported('--framework=%d' % values['framework'])
        )
