"""What atc prints when it refuses: an error code of CANN's own list, then a sentence.

Codes and their meaning are CANN's. The sentences are the tool's where its documents show them.
"""

import datetime
import os
from typing import Any

MESSAGES = {
    'E10001': 'Value [%s] for parameter [%s] is invalid. Reason: %s',
    'E10002': (
        'Value [%s] for parameter [--input_shape] is invalid. Write it as'
        ' [name1:n1,h1,w1,c1;name2:n2,h2,w2,c2].'
    ),
    'E10007': (
        '[--framework] is required. The value must be [0(Caffe) or 1(MindSpore) or 3(TensorFlow) or'
        ' 5(Onnx)].'
    ),
    'E10016': (
        'Opname [%s] specified in [--%s] is not found in the model, confirm whether this node name'
        " exists, or node is not split with the specified delimiter ';'"
    ),
    'E10017': 'Input Op [%s] specified in [--input_shape] is invalid. The Op type must be Data.',
    'E10041': 'Failed to load the model from [%s].',
    'E10049': (
        'Dimension count [%s] configured in [--input_shape] does not match dimension count [%s] of'
        ' the node.'
    ),
    'E10052': 'AIPP configuration is invalid. Reason: %s',
    'E10054': 'The requied parameter [--%s] for ATC is empty.',
    'E10055': 'The operation is not supported. Reason: %s',
    'E10056': 'Cannot config both parameters [%s] and [%s] simultaneously.',
    'E12009': "Op [%s]'s input [%s] is not found in graph_def.",
    'E12029': 'Failed to find the subgraph library.',
    'E19005': 'Failed to parse file [%s].',
    'E19010': 'No parser is registered for Op [%s, optype [%s]].',
    'E19015': 'File[%s] has an impossible size: 0.',
    'E19018': 'Failed to parse file [%s] through [google::protobuf::TextFormat::Parse].',
    'E19999': 'Inner Error! %s',
    'E20101': 'Value [%s] for parameter [--soc_version] is invalid. Reason: there is no such chip.',
}


class AtcError(Exception):
    """A refusal of atc: a code and the values that its sentence names."""

    def __init__(self, code: str, *values: Any):
        super().__init__(MESSAGES[code] % values)
        self.code = code

    def text(self) -> str:
        """What follows "ATC run failed" on standard output; with ASCEND_SIM_NEW_CANN=1 the process
        and the time come first, as in CANN 8.
        """
        stamp = ''
        if os.environ.get('ASCEND_SIM_NEW_CANN') == '1':
            now = datetime.datetime.now().strftime('%Y-%m-%d-%H:%M:%S.%f')
            stamp = '[PID: %d] %s.%s ' % (os.getpid(), now[:-3], now[-3:])
        return '%s: %s%s\n        TraceBack (most recent call last):\n' % (self.code, stamp, self)


def unsupported(what: str) -> AtcError:
    """For what the real tool can do and the stand-in cannot."""
    return AtcError('E10055', '%s (the stand-in for atc does not imitate it)' % what)
