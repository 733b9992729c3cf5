"""What atc's error codes mean and what mends them."""

import pathlib
import re

from common.errors import UserError

_AGAIN = 'python -m offline_inference.freeze makes a graph that fits'
CURES = {
    'E10001': 'the value is not legal for this version of CANN; the line says which are',
    'E10002': 'write --input_shape "name:N,H,W,C"; several inputs are separated by ;',
    'E10003': 'the line names the flag and what is legal',
    'E10014': 'the line names the flag and what is legal',
    'E10004': 'give the flag a value',
    'E10005': 'give true or false',
    'E10006': 'give 0 or 1',
    'E10007': 'give --framework=3 (TensorFlow)',
    'E10009': 'give only one of --dynamic_batch_size, --dynamic_image_size and --dynamic_dims',
    'E10011': (
        'give whole numbers above 0, or -1 with --dynamic_batch_size, --dynamic_image_size or'
        ' --dynamic_dims'
    ),
    'E10012': 'the input needs dimensions: write --input_shape "inputx:-1,H,W,C"',
    'E10016': 'take the name of a node of the graph, and separate several with ;',
    'E10017': '--input_shape may name Placeholders only: inputx',
    'E10018': 'with --dynamic_batch_size only the first number of a shape may be -1',
    'E10019': 'with --dynamic_image_size height and width must be -1, and nothing else',
    'E10021': 'give a shorter path',
    'E10022': 'name a file, not a folder',
    'E10031': 'write --input_shape "inputx:-1,H,W,C" with --dynamic_batch_size',
    'E10034': 'leave --input_fp16_nodes out: AIPP makes the input itself',
    'E10035': 'give at least 2 profiles, or a fixed shape',
    'E10036': 'give at most 100 profiles',
    'E10037': 'give every profile as many numbers as the others',
    'E10040': 'write -1, and no ~, where --input_shape varies',
    'E10038': 'sizes are whole numbers above 0',
    'E10039': 'name every profile once',
    'E10041': 'the file is no TensorFlow graph, or damaged; ' + _AGAIN,
    'E10044': 'the host has too little memory: stop other programs, or a smaller --batch_size',
    'E10045': 'give every profile of --dynamic_dims a number for each -1',
    'E10046': 'give every profile of --dynamic_dims a number for each -1',
    'E10047': 'leave one of the two flags out',
    'E10049': 'the shape needs as many numbers as the placeholder has dimensions: N,H,W,C',
    'E10052': 'the AIPP file is not legal for this model; leave it to --input_dtype uint8',
    'E10054': 'a flag is empty: put values with ; into quotation marks',
    'E10055': 'this version of CANN cannot do it; the line says what',
    'E11005': 'name every placeholder in --input_shape',
    'E11017': 'take the name of a node of the graph',
    'E12009': 'the file is not complete; ' + _AGAIN,
    'E12013': 'the graph calls functions; ' + _AGAIN,
    'E12029': 'the graph calls functions (while, cond); ' + _AGAIN,
    'E19005': 'the file is no TensorFlow graph, or damaged; ' + _AGAIN,
    'E19015': 'the file is empty; ' + _AGAIN,
    'E19018': 'the AIPP file is not legal; leave it to --input_dtype uint8',
    'E19010': 'the graph is not frozen, or holds what only training needs; ' + _AGAIN,
    'EZ9010': 'the graph is not frozen, or holds what only training needs; ' + _AGAIN,
    'E10501': 'the chip has no such operation; a newer CANN may',
    'EZ0501': 'the chip has no such operation; a newer CANN may',
    'EZ3002': (
        'no engine of the chip takes this operation with these types; try --atc_precision_mode'
        ' allow_fp32_to_fp16'
    ),
    'EZ3003': (
        'no engine of the chip takes this operation with these types; try --atc_precision_mode'
        ' allow_fp32_to_fp16'
    ),
    'E20101': (
        'give the chip as --soc_version: "Ascend" and the Name that npu-smi info shows, such as'
        ' Ascend310, Ascend310P3, Ascend910A'
    ),
    'E19999': 'an error inside atc: see its log (~/ascend/log/debug/plog), and try --log debug',
}


def refuse(code: str, text: str) -> UserError:
    """An error of atc with its cure."""
    cure = CURES.get(code)
    return UserError('%s: %s%s' % (code, text.rstrip('. '), '; ' + cure if cure else ''))


def failure(text: str, status: int, log: pathlib.Path) -> UserError:
    """What atc's output says of its failure, with the cure of its code."""
    # CANN 8 puts [PID: n] and the time between the code and the sentence.
    for match in re.finditer(
        r'^\s*(E[A-Z]?\d{4,5})\s*:\s*(?:\[PID: \d+\]\s*\S+\s*)?(.*)$', text, re.M
    ):
        if match.group(1) in CURES:
            return UserError('atc: %s (all of its output: %s)' % (refuse(*match.groups()), log))
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r'error|E[A-Z]?\d{4,5}', line, re.I)] or lines
    return UserError(
        'atc failed with status %d: %s; see %s'
        % (status, (errors or ['it printed nothing'])[0].strip(), log)
    )
