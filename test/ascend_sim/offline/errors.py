"""What atc prints when it refuses: an error code of CANN's own list, then a sentence.

Codes and their meaning are CANN's. The sentences are those of the tool where its documents show
them, else short ones of our own.
"""

import datetime
import os
from typing import Any

MESSAGES = {
    'E10001': 'Value [%s] for parameter [%s] is invalid. Reason: %s',
    'E10002': (
        'Value [%s] for parameter [--input_shape] is invalid. Reason: %s. Write it as'
        ' [name1:n1,h1,w1,c1;name2:n2,h2,w2,c2].'
    ),
    'E10003': 'Value [%s] for parameter [--%s] is invalid. Reason: %s',
    'E10004': 'Value for [--%s] is empty.',
    'E10005': 'Value [%s] for parameter [--%s] must be true or false.',
    'E10006': 'Value [%s] for parameter [--%s] must be 0 or 1.',
    'E10007': (
        '[--framework] is required. The value must be [0(Caffe) or 1(MindSpore) or 3(TensorFlow) or'
        ' 5(Onnx)].'
    ),
    'E10008': '[--weight] is required with [--framework] 0 (Caffe).',
    'E10009': (
        '[--dynamic_batch_size], [--dynamic_image_size], [--dynamic_dims] and [--input_shape_range]'
        ' exclude each other.'
    ),
    'E10011': (
        'Value [%s] for parameter [--input_shape] is invalid. The shape holds %s, which is not a'
        ' positive integer.'
    ),
    'E10012': (
        'With [--dynamic_batch_size] every input of [--input_shape] needs at least one dimension.'
    ),
    'E10014': 'Value [%s] for parameter [--%s] is invalid.',
    'E10016': (
        'Opname [%s] specified in [--%s] is not found in the model, confirm whether this node name'
        " exists, or node is not split with the specified delimiter ';'"
    ),
    'E10017': 'Input Op [%s] specified in [--%s] is invalid. The Op type must be Data.',
    'E10018': (
        'Value [%s] for shape [%s] is invalid. With [--dynamic_batch_size] only the batch size may'
        ' be -1.'
    ),
    'E10019': (
        'With [--dynamic_image_size] only height and width of a 4-D input may be -1 in'
        ' [--input_shape].'
    ),
    'E10020': 'Value [%s] for parameter [--dynamic_image_size] is invalid.',
    'E10021': 'Path for parameter [--%s] is too long, at most %s characters.',
    'E10022': 'Path [%s] for parameter [--%s] does not include the file name.',
    'E10031': (
        '[--dynamic_batch_size] is given, but no input of [--input_shape] has a batch size of -1.'
    ),
    'E10034': 'Nodes (for example, [%s]) connected to AIPP must not be of type fp16.',
    'E10035': 'There are [%s] profiles, fewer than 2.',
    'E10036': 'There are [%s] profiles, more than 100.',
    'E10038': 'Dimension size [%s] of a profile is not positive.',
    'E10039': 'A profile is given twice.',
    'E10041': 'Failed to load the model from [%s].',
    'E10047': '[--%s] and [--%s] are mutually exclusive.',
    'E10049': (
        'Dimension count [%s] configured in [--input_shape] does not match dimension count [%s] of'
        ' the node.'
    ),
    'E10052': 'AIPP configuration is invalid. Reason: %s',
    'E10054': (
        'The requied parameter [%s] for ATC is empty. Another possible reason is that the value of'
        ' some parameter is not enclosed by quotation marks ("").'
    ),
    'E10055': 'The operation is not supported. Reason: %s',
    'E10056': 'Cannot config both parameters [%s] and [%s] simultaneously.',
    'E12009': "Op [%s]'s input [%s] is not found in graph_def.",
    'E12029': 'Failed to find the subgraph library.',
    'E19005': 'Failed to parse file [%s].',
    'E19010': 'No parser is registered for Op [%s, optype [%s]].',
    'E19015': 'File[%s] has an impossible size: %s.',
    'E19018': 'Failed to parse file [%s] through [google::protobuf::TextFormat::Parse].',
    'E19999': 'Inner Error! %s',
    'E20101': 'Value [%s] for parameter [%s] is invalid. Reason: %s.',
}


class AtcError(Exception):
    """A refusal of atc: a code and the values that its sentence names."""

    def __init__(self, code: str, *values: Any):
        super().__init__(MESSAGES[code] % values)
        self.code = code

    def text(self) -> str:
        """What follows "ATC run failed" on standard output. ASCEND_SIM_NEW_CANN=1: with the process
        and the time, as CANN 8 does.
        """
        stamp = ''
        if os.environ.get('ASCEND_SIM_NEW_CANN') == '1':
            now = datetime.datetime.now()
            stamp = '[PID: %d] %s.%03d.%03d ' % (
                os.getpid(),
                now.strftime('%Y-%m-%d-%H:%M:%S'),
                now.microsecond // 1000,
                now.microsecond % 1000,
            )
        return (
            '%s: %s%s\n        TraceBack (most recent call last):\n        [%s] offline model was'
            ' not made.\n' % (self.code, stamp, self, self.code)
        )


def unsupported(what: str) -> AtcError:
    """For what the real tool can do and the stand-in cannot."""
    return AtcError('E10055', '%s (the stand-in for atc does not imitate it)' % what)
