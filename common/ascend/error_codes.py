"""What to do about the errors that HCCL and atc report by a code."""

import re
from typing import List

_REFREEZE = 'make the graph again with python -m offline_inference.freeze'
_UNSUPPORTED_TYPES = (
    'no engine of the chip takes this operation with these types; try --atc_precision_mode'
    ' allow_fp32_to_fp16'
)

HCCL = {
    'EI0001': 'the message names an HCCL_* variable with an illegal value: correct or unset it',
    'EI0002': (
        'a rank waited longer than HCCL_EXEC_TIMEOUT for another: look for an earlier error in the'
        ' logs of the other ranks; every rank needs the same number of steps; if one is only slow,'
        ' export HCCL_EXEC_TIMEOUT=3600 (seconds)'
    ),
    'EI0003': (
        'the message names an illegal argument of a collective: check --hccl_split, and the shapes'
        ' in your own code'
    ),
    'EI0004': (
        'the rank table does not fit: python -m hccl.rank_table validate FILE; the device_id of a'
        ' rank must be the device that the process runs on'
    ),
    'EI0005': (
        'the ranks do different things: start all with the same command, recipe, code and rank'
        ' table'
    ),
    'EI0006': (
        'a rank did not connect within HCCL_CONNECT_TIMEOUT: start all servers within that time, or'
        ' export HCCL_CONNECT_TIMEOUT=1200 (120 to 7200 seconds); hccn_tool -i 0 -tls -g and -link'
        ' -g must say the same on all servers'
    ),
    'EI0007': (
        'the device has no memory or notify left: stop other processes on it (npu-smi info), or'
        ' give a smaller --batch_size'
    ),
    'EI0008': 'the servers have different HCCL versions: install the same CANN on all of them',
    'EI0009': (
        'two devices cannot reach each other: check hccn_tool -i N -link -g, and compare hccn_tool'
        ' -i N -ip -g with the device_ip in the rank table'
    ),
    'EJ0001': (
        'the last training process still holds the device: wait 10 s after killing it, then start'
        ' again'
    ),
}

ATC = {
    'E10001': 'the value is not legal for this version of CANN; the line says which are',
    'E10003': 'the line names the flag and what is legal',
    'E10014': 'the line names the flag and what is legal',
    'E10011': 'the shape of an input is open; ' + _REFREEZE,
    'E10016': 'the graph has no such node; ' + _REFREEZE,
    'E10017': 'the input is not a Placeholder; ' + _REFREEZE,
    'E10021': 'give a shorter path',
    'E10022': 'name a file, not a folder',
    'E10041': 'the file is not a TensorFlow graph, or is damaged; ' + _REFREEZE,
    'E10044': 'the host has too little memory: stop other programs, or a smaller --batch_size',
    'E10049': 'the input has another number of dimensions; ' + _REFREEZE,
    'E10052': 'the AIPP file is not legal for this model; leave it to --input_dtype uint8',
    'E10055': 'this version of CANN cannot do it; the line says what',
    'E11005': 'an input has no shape; ' + _REFREEZE,
    'E11017': 'the graph has no such node; ' + _REFREEZE,
    'E12009': 'the file is not complete; ' + _REFREEZE,
    'E12013': 'the graph calls functions; ' + _REFREEZE,
    'E12029': 'the graph calls functions (while, cond); ' + _REFREEZE,
    'E19005': 'the file is not a TensorFlow graph, or is damaged; ' + _REFREEZE,
    'E19015': 'the file is empty; ' + _REFREEZE,
    'E19018': 'the AIPP file is not legal; leave it to --input_dtype uint8',
    'E19010': 'the graph is not frozen, or holds operations that only training needs; ' + _REFREEZE,
    'EZ9010': 'the graph is not frozen, or holds operations that only training needs; ' + _REFREEZE,
    'E10501': 'the chip has no such operation; a newer CANN may',
    'EZ0501': 'the chip has no such operation; a newer CANN may',
    'EZ3002': _UNSUPPORTED_TYPES,
    'EZ3003': _UNSUPPORTED_TYPES,
    'E20101': (
        'this CANN does not know the value of the flag that the line names; --soc_version is'
        ' "Ascend" and the Name that npu-smi info shows, such as Ascend310, Ascend310P3, Ascend910A'
    ),
    'E19999': 'an error inside atc: see its log (~/ascend/log/debug/plog), and try --log debug',
}


def find_fixes(log: str) -> List[str]:
    """'CODE: fix' for each code of HCCL in a log, in the order of their first appearance."""
    codes = dict.fromkeys(re.findall(r'(?<![A-Za-z0-9])E[IJ]\d{4}(?!\d)', log))
    return ['%s: %s' % (code, HCCL[code]) for code in codes if code in HCCL]
