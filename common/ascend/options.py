"""The flags of `--device npu`: names, legal values and defaults of the TF adapter's NPURunConfig.

There an illegal value aborts the process or is silently ignored, so it is refused here first.
"""

import dataclasses
import os
import re
from typing import List, Optional, Sequence, Union

from typing_extensions import Literal

from common.configuration.fields import PositiveInt, option
from common.errors import UserError
from common.files import read_json

PrecisionMode = Literal[
    'force_fp32',
    'allow_fp32_to_fp16',
    'force_fp16',
    'must_keep_origin_dtype',
    'allow_mix_precision',
    'cube_fp16in_fp32out',
    'allow_mix_precision_fp16',
    'allow_mix_precision_bf16',
    'allow_fp32_to_bf16',
]
PrecisionModeV2 = Literal[
    'fp16', 'origin', 'cube_fp16in_fp32out', 'mixed_float16', 'mixed_bfloat16'
]
FILES = ('fusion_switch_file', 'op_precision_mode', 'customize_dtypes')
MIXED = (
    'allow_mix_precision',
    'allow_mix_precision_fp16',
    'allow_mix_precision_bf16',
    'mixed_float16',
    'mixed_bfloat16',
)


@dataclasses.dataclass(frozen=True)
class NPUOptions:
    """Mixed into Config; all of it is ignored on CPU and GPU."""

    precision_mode: Optional[PrecisionMode] = option(
        None,
        'overrides --precision; mixed is allow_mix_precision, float32 allow_fp32_to_fp16',
        group='Ascend NPU',
    )
    precision_mode_v2: Optional[PrecisionModeV2] = option(
        None, 'for adapters from r1.13.0; never together with --precision_mode'
    )
    modify_mixlist: Optional[str] = option(
        None, 'JSON file that moves operators between the lists of mixed precision'
    )
    op_select_implmode: Optional[
        Literal[
            'high_precision',
            'high_performance',
            'high_precision_for_all',
            'high_performance_for_all',
        ]
    ] = option(None, 'implementation of operators that have two')
    iterations_per_loop: Optional[PositiveInt] = option(
        None, 'steps per call of the device; None: the largest that the intervals admit'
    )
    enable_data_pre_proc: bool = option(
        True, 'data reach the device through its queue; loops need it'
    )
    hcom_parallel: bool = option(True, 'allreduce beside the backward pass')
    hccl_split: Optional[str] = option(
        None, "gradient segments: 'auto', 'index 20,100,159' or 'size 60,20,20'; None: HCCL's own"
    )
    graph_memory_max_size: Optional[PositiveInt] = option(None, 'bytes for the graph')
    variable_memory_max_size: Optional[PositiveInt] = option(None, 'bytes for the variables')
    op_compiler_cache_mode: Literal['disable', 'enable', 'force'] = option(
        'enable',
        'enable keeps compiled operators, so that only the first start compiles for minutes',
    )
    op_compiler_cache_dir: Optional[str] = option(
        None, "folder of that cache; None: CANN's, below the user's home"
    )
    aoe_mode: Optional[Literal['1', '2', '4', 'mdat']] = option(
        None, 'tuning: 1 subgraph, 2 operator, 4 gradient split'
    )
    jit_compile: Optional[Literal['true', 'false', 'auto']] = option(
        None, "compile operators at run time, for shapes that change; None: the adapter's own"
    )
    enable_small_channel: bool = option(
        False, 'faster first convolution of images with few channels, for some networks'
    )
    fusion_switch_file: Optional[str] = option(None, 'JSON file that switches fusions off')
    op_precision_mode: Optional[str] = option(
        None, '.ini file with high_precision or high_performance by operator'
    )
    customize_dtypes: Optional[str] = option(None, '.cfg file with the types of single operators')
    deterministic: Literal[0, 1] = option(0, '1 makes operators deterministic, slower')
    profiling: Optional[str] = option(None, 'folder for a profile of the run')
    over_dump: Optional[str] = option(None, 'folder for dumps of the first operators that overflow')
    data_dump: Optional[str] = option(None, 'folder for dumps of operator outputs')
    dump_step: Optional[str] = option(None, "steps to dump, such as '0|5|10-20'; None: all")

    def ignored_on(self, device: str) -> List[str]:
        """Returns a sentence that names the options which are set here and `device` ignores."""
        fields = dataclasses.fields(NPUOptions)
        names = [field.name for field in fields if getattr(self, field.name) != field.default]
        if device == 'npu' or not names:
            return []
        return ['%s: no effect with device %s' % (', '.join(names), device)]

    def check_npu(self) -> None:
        """Raises UserError for what the adapter would refuse, ignore or abort on."""
        if self.precision_mode and self.precision_mode_v2:
            raise UserError(
                'precision_mode and precision_mode_v2: give one, the adapter does not take both'
            )
        if self.modify_mixlist and mode(self) not in MIXED:
            raise UserError(
                'modify_mixlist: needs mixed precision (%s), found %s'
                % (', '.join(MIXED), mode(self))
            )
        if self.modify_mixlist:
            _check_mixlist(self.modify_mixlist)
        for name in FILES:
            path = getattr(self, name)
            if path and not os.path.isfile(path):
                raise UserError('%s %s: no such file' % (name, path))
        if self.aoe_mode and not os.access('.', os.R_OK | os.W_OK):
            raise UserError(
                'aoe_mode: tuning writes into the current folder, %s, which is not writable; start'
                ' from another' % os.getcwd()
            )
        if (self.iterations_per_loop or 1) > 1 and not self.enable_data_pre_proc:
            raise UserError(
                'iterations_per_loop %d: needs --enable_data_pre_proc True'
                % self.iterations_per_loop
            )
        if self.hccl_split and self.hccl_split != 'auto':
            split(self.hccl_split)
        self._check_dumps()

    def _check_dumps(self) -> None:
        if self.over_dump and self.data_dump:
            raise UserError('over_dump and data_dump: give one, the adapter does not take both')
        if not self.dump_step:
            return
        if not self.data_dump:
            raise UserError('dump_step: it chooses steps of --data_dump, which is not given')
        ranges = re.findall(r'(\d+)-(\d+)', self.dump_step)
        if not re.fullmatch(r'\d+(-\d+)?(\|\d+(-\d+)?){0,99}', self.dump_step) or any(
            int(first) >= int(last) for first, last in ranges
        ):
            raise UserError(
                'dump_step: %r is not legal; give at most 100 steps or ascending ranges such as'
                " '0|5|10-20'" % self.dump_step
            )


def mode(cfg) -> str:
    """The adapter's precision mode of a configuration, of precision_mode_v2 if that is given."""
    # float32 is not 'force_fp32': the 910's cube unit has float16 only.
    return (
        cfg.precision_mode_v2
        or cfg.precision_mode
        or ('allow_fp32_to_fp16' if cfg.precision == 'float32' else 'allow_mix_precision')
    )


def _check_mixlist(path: str) -> None:
    try:
        content = read_json(path)
    except OSError as error:
        raise UserError('modify_mixlist %s: %s' % (path, error.strerror))
    except ValueError as error:
        raise UserError(
            'modify_mixlist %s is not JSON (%s); comments are not allowed' % (path, error)
        )
    lists = content.items() if isinstance(content, dict) else [(type(content).__name__, None)]
    for name, changes in lists:
        is_list = name in ('black-list', 'white-list', 'gray-list') and isinstance(changes, dict)
        if not is_list or set(changes) - {'to-add', 'to-remove'}:
            raise UserError(
                'modify_mixlist %s: %r is not legal; give {"black-list": {"to-add": [],'
                ' "to-remove": []}, "white-list": {...}}' % (path, name)
            )


def split(text: str, gradients: Optional[int] = None) -> Union[List[int], List[float]]:
    """Numbers of 'index 20,100,159' (last gradient of each segment) or 'size 60,20,20' (percent);
    UserError by HCCL's rules.

    gradients: their number, if known: the last index must be that of the last gradient.
    """

    def require(condition: bool, rule: str) -> None:
        if not condition:
            raise UserError('hccl_split: %r: %s' % (text, rule))

    match = re.fullmatch(r'(index|size) ([\d.]+(?:,[\d.]+)*)', text)
    if not match:
        raise UserError(
            "hccl_split: %r is not legal; give 'auto', 'index 20,100,159' or 'size 60,20,20'" % text
        )
    by_index, parts = match[1] == 'index', match[2].split(',')
    try:
        numbers = [int(word) if by_index else float(word) for word in parts]
    except ValueError:
        raise UserError('hccl_split: %r: it holds something that is not a number' % text)
    require(len(numbers) <= 8, '%d segments; HCCL takes at most 8' % len(numbers))
    if by_index:
        require(numbers == sorted(set(numbers)), 'indices must ascend')
        last = numbers[-1] if gradients is None else gradients - 1
        rule = 'the last index must be that of the last gradient, %d' % last
        require(numbers[-1] == last, rule)
    else:
        require(min(numbers) > 0, 'percentages must be above 0')
        total = sum(numbers)
        require(abs(total - 100) <= 1e-6, 'percentages sum to %g, not to 100' % total)
    return numbers


def auto_split(sizes: Sequence[int]) -> str:
    """Two segments of gradients, given their sizes in back-propagation order: the first is sent
    beside the rest of the backward pass.

    The second, which nothing hides, holds at most 3.46 % of the elements, HCCL's own share (tuned
    for ResNet-50), in whole gradients.
    """
    total, sent = sum(sizes), 0
    for index, size in enumerate(sizes[:-1]):
        sent += size
        if sent >= 0.9654 * total:
            return 'index %d,%d' % (index, len(sizes) - 1)
    return 'index %d' % (len(sizes) - 1)


def folder(path: str) -> str:
    """Makes a folder that the adapter wants to exist; returns its absolute path."""
    os.makedirs(path, exist_ok=True)
    return os.path.abspath(path)
