"""atc's command line: its flags and defaults, read as gflags reads them."""

import os
from typing import Any, Dict, List

HELP_FLAGS = ('help', 'h', 'helpfull', 'helpshort')

_TEXT = dict.fromkeys(
    (
        'model output weight input_shape input_shape_range cal_conf insert_op_conf op_name_map'
        ' target om json out_nodes op_precision_mode modify_mixlist keep_dtype input_format'
        ' input_fp16_nodes is_output_adjust_hw_layout is_input_adjust_hw_layout output_type'
        ' op_select_implmode optypelist_for_implmode singleop auto_tune_mode soc_version aicore_num'
        ' fusion_switch_file save_original_model dynamic_batch_size dynamic_image_size dynamic_dims'
        ' compress_weight_conf enable_single_stream enable_scope_fusion_passes debug_dir'
        ' op_compiler_cache_dir op_compiler_cache_mode mdl_bank_path op_bank_path'
    ).split(),
    '',
)
FLAGS = dict(
    _TEXT,
    framework=-1,
    mode=0,
    disable_reuse_memory=0,
    op_debug_level=0,
    precision_mode='force_fp16',
    check_report='check_result.json',
    core_type='AiCore',
    buffer_optimize='l2_optimize',
    enable_small_channel='0',
    enable_compress_weight='false',
    log='null',
    dump_mode='0',
    display_model_info='0',
    device_id='0',
)
# Flags that came after CANN 5.0; unknown with ASCEND_SIM_OLD_CANN=1.
NEWER = dict(
    precision_mode_v2='',
    customize_dtypes='',
    allow_hf32='',
    virtual_type=0,
    sparsity=0,
    compression_optimize_conf='',
    op_debug_config='',
    ac_parallel_enable='0',
    tiling_schedule_optimize='0',
    status_check='0',
    deterministic='0',
    shape_generalized_build_mode='shape_precise',
    atomic_clean_policy='0',
    external_weight='0',
    quant_dumpable='',
    host_env_os='',
    host_env_cpu='',
)


class FlagsError(Exception):
    """The command line cannot be read; the text is what gflags prints on standard error, status 1."""


class Help(Exception):
    """Help was asked for."""


def old_cann() -> bool:
    """True if a CANN of 2021 (5.0) is to be imitated: ASCEND_SIM_OLD_CANN=1."""
    return os.environ.get('ASCEND_SIM_OLD_CANN') == '1'


def legal() -> Dict[str, Any]:
    """Flag -> default, for the imitated version."""
    return dict(FLAGS) if old_cann() else dict(FLAGS, **NEWER)


def parse(words: List[str]) -> Dict[str, Any]:
    """Values of all flags, and '' -> the names that were given.

    --flag=value, --flag value, both with one dash or two; the last of several wins; words that are
    no flag are ignored. Raises FlagsError (every error, one a line) or Help.
    """
    known = legal()
    values, given, errors, asked = dict(known), set(), [], False
    words = list(words)
    while words:
        word = words.pop(0)
        if word == '--':
            break
        if not word.startswith('-') or word == '-':
            continue
        name, equals, value = word[2 if word.startswith('--') else 1 :].partition('=')
        if name in HELP_FLAGS:
            asked = True
        elif name not in known:
            errors.append("ERROR: unknown command line flag '%s'" % name)
        elif not equals and not words:
            errors.append("ERROR: flag '%s' is missing its argument" % name)
        else:
            value = value if equals else words.pop(0)
            given.add(name)
            if isinstance(known[name], int):
                try:
                    values[name] = int(value, 0)
                except ValueError:
                    errors.append(
                        "ERROR: illegal value '%s' specified for int32 flag '%s'" % (value, name)
                    )
            else:
                values[name] = value
    if errors:
        raise FlagsError('\n'.join(sorted(errors)))
    if asked:
        raise Help()
    values[''] = given
    return values


def usage() -> str:
    """What --help prints."""
    lines = [
        'usage: atc <args>',
        'for example:',
        (
            '  atc --model=./net.pb --framework=3 --input_shape="x:1,32,32,3" --out_nodes="y:0"'
            ' --output=./net --soc_version=<soc_version>'
        ),
        '',
        'flags (default):',
    ]
    return '\n'.join(
        lines + ['  --%s (%s)' % (name, value) for name, value in sorted(legal().items())]
    )
