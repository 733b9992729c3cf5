"""atc's flags, read as gflags reads them, and what atc checks in them before it opens the model."""

import os
import re
from typing import Dict, List, Tuple

from offline.errors import AtcError, unsupported

FLAGS = dict(
    dict.fromkeys(
        'model output input_shape out_nodes output_type soc_version insert_op_conf input_format'
        ' precision_mode precision_mode_v2'.split(),
        '',
    ),
    framework='-1',
    log='null',
)
_FLOAT = ('force_fp32', 'must_keep_origin_dtype', 'origin')
_CUBE = ('cube_fp16in_fp32out', 'allow_fp32_to_fp16')
PRECISION_MODES = ('force_fp16', 'allow_mix_precision', 'allow_mix_precision_fp16') + _FLOAT[:2]
PRECISION_MODES += _CUBE
PRECISION_MODES_V2 = ('fp16', 'origin', 'cube_fp16in_fp32out', 'mixed_float16')
OUTPUT_TYPES = {'FP32': 'float32', 'FP16': 'float16'}
CHIPS = re.compile(
    r'Ascend(310|310P[1-7]|310B[1-4]|610|910A|910B|910ProA|910ProB|910PremiumA'
    r'|910B[1-4](C|-1)?|910_93\d\d)\Z'
)
LEGAL_PATH = re.compile('[\u4e00-\u9fa5A-Za-z0-9./_-]+\\Z')


class FlagsError(Exception):
    """The command line cannot be read; the text is what gflags prints on standard error."""


def parse(words: List[str]) -> Dict[str, str]:
    """Values of all flags, from words of the form --flag=value; the last of several wins."""
    values = dict(FLAGS)
    for word in words:
        name, equals, value = word.partition('=')
        if name[2:] not in FLAGS or not name.startswith('--'):
            raise FlagsError("ERROR: unknown command line flag '%s'" % name.lstrip('-'))
        if not equals:
            raise FlagsError("ERROR: flag '%s' is missing its argument" % name[2:])
        values[name[2:]] = value
    return values


def _path(value: str, flag: str) -> None:
    if not LEGAL_PATH.match(value):
        raise AtcError(
            'E10001',
            value,
            '--' + flag,
            "The path can only contain 'a-z' 'A-Z' '0-9' '-' '.' '_' and chinese character",
        )


def _input_path(value: str, flag: str) -> None:
    if not os.path.isfile(value):
        raise AtcError(
            'E10001', value, '--' + flag, 'realpath error, errmsg:No such file or directory'
        )
    _path(os.path.realpath(value), flag)


def _one_of(values: Dict[str, str], flag: str, legal) -> None:
    if values[flag] and values[flag] not in legal:
        raise AtcError('E10001', values[flag], '--' + flag, 'only support ' + ', '.join(legal))


def check(values: Dict[str, str]) -> None:
    """Everything that can be said without the model."""
    if values['framework'] != '3':
        if values['framework'] in ('0', '1', '5'):
            raise unsupported('--framework=%s' % values['framework'])
        raise AtcError('E10007')
    for flag in ('soc_version', 'output', 'model'):
        if not values[flag]:
            raise AtcError('E10054', flag)
    for flag in ('input_shape', 'out_nodes'):
        if not values[flag]:
            raise unsupported('a command without --%s' % flag)
    _input_path(values['model'], 'model')
    _path(values['output'], 'output')
    os.makedirs(os.path.dirname(values['output']) or '.', exist_ok=True)
    _one_of(values, 'precision_mode', PRECISION_MODES)
    _one_of(values, 'precision_mode_v2', PRECISION_MODES_V2)
    _one_of(values, 'output_type', OUTPUT_TYPES)
    _one_of(values, 'input_format', ('NHWC',))
    if values['precision_mode'] and values['precision_mode_v2']:
        raise AtcError('E10056', '--precision_mode', '--precision_mode_v2')
    if values['insert_op_conf']:
        _input_path(values['insert_op_conf'], 'insert_op_conf')
    if not CHIPS.match(values['soc_version']):
        raise AtcError('E20101', values['soc_version'])


def precision(values: Dict[str, str]) -> str:
    """'half' (every tensor), 'cube' (what enters convolutions and matrix products) or 'float'."""
    mode = values['precision_mode_v2'] or values['precision_mode'] or 'force_fp16'
    return 'float' if mode in _FLOAT else 'cube' if mode in _CUBE else 'half'


def input_shapes(text: str) -> Dict[str, List[int]]:
    """{name: dimensions} of --input_shape."""
    shapes = {}
    for item in text.split(';'):
        match = re.match(r'(.+):([1-9]\d*(?:,[1-9]\d*)*)\Z', item)
        if not match:
            raise AtcError('E10002', item)
        shapes[match.group(1)] = [int(number) for number in match.group(2).split(',')]
    return shapes


def out_nodes(text: str) -> List[Tuple[str, int]]:
    """[(node, index of its output)] of --out_nodes."""
    nodes = []
    for item in text.split(';'):
        name, _, index = item.partition(':')
        if not index.isdigit():
            raise AtcError(
                'E10001',
                item,
                '--out_nodes',
                'the correct format is "node_name1:0;node_name1:1;node_name2:0"',
            )
        nodes.append((name, int(index)))
    return nodes
