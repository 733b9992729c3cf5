"""msame: runs an offline model on folders of files. What it accepts, prints, names and leaves
undone is the tool's own; input files by name, zeros and dynamic models are not imitated.
"""

import json
import os
import sys
import time
from typing import Dict, List, Optional

import numpy as np

from offline import om

MODEL_ID = 1
FLAGS = ('model', 'input', 'output', 'outfmt', 'device')
_GARBAGE = b'\xcd'  # what memory holds that nobody wrote
_SLACK = 64  # bytes that a buffer may be too small by: sizes are compared after alignment


class Exit(Exception):
    """The tool ends here with this status."""

    def __init__(self, status: int, *errors: str):
        super().__init__(status)
        self.status, self.errors = status, errors


def old_build() -> bool:
    """True if a build of 2021 is imitated, which prints fewer lines: ASCEND_SIM_MSAME_OLD=1."""
    return os.environ.get('ASCEND_SIM_MSAME_OLD') == '1'


def say(kind: str, text: str, *values) -> None:
    """One log line: everything goes to standard output, errors too."""
    print('[%s] %s' % (kind, text % values if values else text), flush=True)


def parse(words: List[str]) -> Dict[str, str]:
    """Values of `--flag value`; most mistakes end the tool with status 0."""
    if not words:
        raise Exit(1, 'Invalid params', 'Execute sample failed')
    values = dict(model='', output='', outfmt='BIN', device='0')
    for name, value in zip(words[::2], words[1::2] + ['']):
        if name[2:] not in FLAGS or not name.startswith('--'):
            sys.stderr.write("msame: unrecognized option '%s'\n" % name)
            raise Exit(0, 'unknown paramenter', 'Execute sample failed')
        values[name[2:]] = value
    if '.om' not in values['model']:
        raise Exit(0, 'input model file type is not .om , please check your model type!')
    # The first name decides: whatever holds ".bin" anywhere is a file.
    if '.bin' in values.get('input', '.bin').split(',')[0]:
        raise Exit(1, 'the stand-in for msame takes folders only')
    return values


def stamp() -> str:
    """Name of the folder of a run: numbers without leading zeros; ASCEND_SIM_MSAME_STAMP=old:
    %Y%m%d_%H%M%S.
    """
    now = time.time()
    local = time.localtime(now)
    if os.environ.get('ASCEND_SIM_MSAME_STAMP', 'old' if old_build() else 'new') == 'old':
        return time.strftime('%Y%m%d_%H%M%S', local)
    return '%d%d%d_%d_%d_%d_%d' % (local[:6] + (int(now * 1e6) % 1000000,))


def _open_device(device: int) -> None:
    try:
        if os.path.exists('acl.json'):
            with open('acl.json') as file:
                json.load(file)
    except ValueError:
        raise Exit(1, 'acl init failed', 'Sample init resource failed') from None
    say('INFO', 'acl init success')
    if device >= int(os.environ.get('ASCEND_SIM_DEVICES', '8')):
        raise Exit(1, 'acl open device %d failed' % device, 'Sample init resource failed')
    say('INFO', 'open device %d success', device)


def _load(path: str) -> om.Model:
    try:
        model = om.Model(path)
    except om.OmError as error:
        print('E19999: Inner Error!\nE19999  %s' % error, flush=True)
        say('ERROR', 'load model from file failed, model file is %s', path)
        raise Exit(1, 'load model from file failed', 'Sample process failed')
    say('INFO', 'load model %s success', path)
    if not old_build():
        say('INFO', 'get input dynamic gear count success')
    return model


def _read(path: str) -> bytes:
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except OSError:
        data = b''
        say('ERROR', 'open file %s failed', path)
    if not data:
        raise Exit(1, 'get pic device buffer failed,index is 0', 'Sample process failed')
    return data


def _execute(model: om.Model, buffers: List[bytes]):
    """(outputs, milliseconds), or None if the device refuses the buffers. Too large is fine; so is
    too small by up to 64 bytes.
    """
    sizes = [om.nbytes(item) for item in model.inputs]
    if len(buffers) != len(sizes):
        problem = 'is_input:1 blob size:%d from user != op_size:%d in model, mode_id:%d' % (
            len(buffers),
            len(sizes),
            MODEL_ID,
        )
    else:
        problem = next(
            (
                'input size:%d from user add align:%d < op_size:%d in model, model_id:%d, check'
                ' invalid' % (len(data), _SLACK, size, MODEL_ID)
                for data, size in zip(buffers, sizes)
                if len(data) + _SLACK < size
            ),
            None,
        )
    if problem:
        print('E19999: Inner Error!\nE19999  %s' % problem, flush=True)
        say('ERROR', 'execute model failed, modelId is %d', MODEL_ID)
        return None
    begin = time.perf_counter()
    outputs = model.run(
        [data[:size] + _GARBAGE * (size - len(data)) for data, size in zip(buffers, sizes)]
    )
    say('INFO', 'model execute success')
    return outputs, 1000 * (time.perf_counter() - begin)


def _write(outputs: List[np.ndarray], stem: str, outfmt: str) -> None:
    """<stem>_output_<i>.bin or .txt; anything but TXT is BIN. Text has 6 digits and a line for each
    run of the last dimension.
    """
    for index, array in enumerate(outputs):
        path = '%s_output_%d' % (stem, index)
        if outfmt == 'TXT':
            with open(path + '.txt', 'w') as file:
                for row in array.reshape(-1, array.shape[-1]).tolist():
                    file.write(''.join('%g ' % value for value in row) + '\n')
        else:
            array.tofile(path + '.bin')
    say('INFO', 'output data success')


def _folders(model: om.Model, folders: List[str], output: str, outfmt: str) -> None:
    """One execution for each name in the first folder; the other folders must hold the same names.

    The tool's own way with a failure: the second of several ends it with status 1, another is
    passed over, and because the buffers stay, everything after it fails too; the run still ends in
    success.
    """
    for path in folders:
        if not os.path.exists(path):
            raise Exit(0, "%s doesn't exist" % folders[0])
    buffers, times = [], []
    names = sorted(name for name in os.listdir(folders[0]) if not name.startswith('.'))
    for position, name in enumerate(names):
        for path in folders:
            say('INFO', 'start to process file:%s/%s', path, name)
            buffers.append(_read('%s/%s' % (path, name)))
        done = _execute(model, buffers)
        if done is None:
            say('ERROR', 'model execute failed')
            if position == 1:
                raise Exit(1, 'Sample process failed')
            continue
        print('Inference time: %gms' % done[1], flush=True)
        times.append(done[1])
        _write(done[0], '%s/%s' % (output, name[: name.rindex('.')]), outfmt)
        buffers = []
    average = '%.2f' % np.mean(times) if times else '-nan'
    print('Inference average time : %s ms' % average, flush=True)
    if len(times) > 1:
        print('Inference average time without first time: %.2f ms' % np.mean(times[1:]), flush=True)


def run(values: Dict[str, str]) -> None:
    """The tool without its last lines."""
    _open_device(int(values['device']))
    model = _load(values['model'])
    output = '%s/%s' % (values['output'], stamp())
    print(output, flush=True)
    os.makedirs(output, exist_ok=True)
    _folders(model, values['input'].split(','), output, values['outfmt'])
    say('INFO', 'unload model success, model Id is %d', MODEL_ID)
    prefix = '' if old_build() else 'pid: %d ' % os.getpid()
    say('INFO', '%sExecute sample success' % prefix)


def main(words: List[str]) -> Optional[int]:
    """The command; returns its exit status."""
    try:
        run(parse(words))
        status = 0
    except Exit as ended:
        for error in ended.errors:
            say('ERROR', error)
        status = ended.status
    say('INFO', 'end to finalize acl')
    return status


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
