"""What to do about the errors that HCCL reports by a code; README.md has the same table."""

import re
from typing import Dict, List

CURES: Dict[str, str] = {
    'EI0001': (
        'an HCCL_* variable has an illegal value: the message names it; correct it or unset it'
    ),
    'EI0002': (
        'a rank waited longer than HCCL_EXEC_TIMEOUT for another: look for an earlier error in the'
        " other ranks' logs; every rank needs the same number of steps; if one is only slow,"
        ' export HCCL_EXEC_TIMEOUT=3600 (seconds)'
    ),
    'EI0003': (
        'a collective got an illegal argument: the message names it; look at --hccl_split and at'
        ' the shapes in your own code'
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
        ' -g must say the same on all'
    ),
    'EI0007': (
        'the device has no memory or notify left: stop other processes on it (npu-smi info), or'
        ' give a smaller --batch_size'
    ),
    'EI0008': 'the servers have different HCCL versions: install the same CANN on all of them',
    'EI0009': (
        'two devices cannot reach each other: look at hccn_tool -i N -link -g and at the device_ip'
        ' addresses in the rank table'
    ),
    'EJ0001': (
        'the last training process still holds the device: wait 10 s after killing the last'
        ' process, then start again'
    ),
}


def find(log: str) -> List[str]:
    """'CODE: cure' for each code that the log has, in the order of their first appearance."""
    codes = dict.fromkeys(re.findall(r'(?<![A-Za-z0-9])E[IJ]\d{4}(?!\d)', log))
    return ['%s: %s' % (code, CURES[code]) for code in codes if code in CURES]
