"""msame: runs an offline model on files. What it accepts, prints, names and leaves undone is the
tool's own.
"""

import json
import os
import signal
import sys
import time
from typing import List

from offline.msame_options import Exit, Options, make_folder, say
from offline.msame_process import Failed, Process, old_build

FAILED = 1


class Abort(Exception):
    """The tool dies of an uncaught C++ exception, whose name and text these are."""


def stamp() -> str:
    """Name of the folder of a run: numbers without leading zeros; ASCEND_SIM_MSAME_STAMP=old:
    %Y%m%d_%H%M%S.
    """
    now = time.time()
    local = time.localtime(now)
    if os.environ.get('ASCEND_SIM_MSAME_STAMP', 'old' if old_build() else 'new') == 'old':
        return time.strftime('%Y%m%d_%H%M%S', local)
    return '%d%d%d_%d_%d_%d_%d' % (local[:6] + (int(now * 1e6) % 1000000,))


def _read(path: str, index: int) -> bytes:
    """A whole input file. Raises Failed if it is empty or cannot be read."""
    try:
        with open(path, 'rb') as file:
            data = file.read()
    except IsADirectoryError:
        say('ERROR', 'malloc binFileBufferData failed')
        data = b''
    except OSError:
        say('ERROR', 'open file %s failed', path)
        data = b''
    else:
        if not data:
            say('ERROR', 'binfile is empty, filename is %s', path)
    if not data:
        raise Failed('get pic device buffer failed,index is %d' % index)
    return data


def _time_line(milliseconds: float) -> None:
    print('Inference time: %gms' % milliseconds, flush=True)


def _folders(process: Process, options: Options, folder: str) -> None:
    """One execution for each name in the first folder; the other folders must hold the same names.

    The tool's own way with a failure: the first of several ends it with status 1, a later one (or
    an only one) is passed over, and because the buffers stay, everything after it fails too; the
    run still ends in success.
    """
    for path in options.inputs:
        if os.path.isfile(path):
            say('ERROR', "input parameter must be folder or file ending in '.bin'")
            raise Exit(0)
        if not os.path.exists(path):
            say('ERROR', "%s doesn't exist", options.inputs[0])
            raise Exit(0)
    names = sorted(name for name in os.listdir(options.inputs[0]) if not name.startswith('.'))
    if not names:
        print('[ERROR] No file in the directory[%s]' % options.inputs[0], end='', flush=True)
    times = []
    for position, name in enumerate(names):
        for index, path in enumerate(options.inputs):
            say('INFO', 'start to process file:%s/%s', path, name)
            process.add_input(_read('%s/%s' % (path, name), index))
        milliseconds = process.execute()
        if milliseconds is None:
            say('ERROR', 'model execute failed')
            if position == 1:
                raise Failed(None)
            continue
        _time_line(milliseconds)
        times.append(milliseconds)
        if '.' not in name:
            raise Abort(
                "std::out_of_range'\n  what():  basic_string::erase: __pos (which is"
                ' 18446744073709551615) > this->size() (which is %d)' % len(name)
            )
        process.write(folder, name[: name.rindex('.')])
        process.clear_inputs()
    print(
        'Inference average time : %s ms'
        % ('%.2f' % (sum(times) / len(times)) if times else '-nan'),
        flush=True,
    )
    if len(times) > 1:
        print(
            'Inference average time without first time: %.2f ms'
            % (sum(times[1:]) / (len(times) - 1)),
            flush=True,
        )


def _files(process: Process, options: Options, folder: str) -> None:
    """The input files, or zeros, `loop` times; the last results are written."""
    if options.inputs:
        for index, path in enumerate(options.inputs):
            say('INFO', 'start to process file:%s', path)
            process.add_input(_read(path, index))
    else:
        process.add_zeros()
    times = []
    for _ in range(options.loop):
        milliseconds = process.execute()
        _time_line(milliseconds or 0)
        if milliseconds is None:
            raise Failed('model execute failed')
        times.append(milliseconds)
    name = options.model.rpartition('/')[2]
    process.write(folder, name[: name.rindex('.')])
    print('Inference average time: %f ms' % (sum(times) / len(times)), flush=True)
    if len(times) > 1:
        print(
            'Inference average time without first time: %f ms'
            % (sum(times[1:]) / (len(times) - 1)),
            flush=True,
        )
    process.clear_inputs()


def _open_device(options: Options) -> None:
    try:
        if os.path.exists('acl.json'):
            with open('acl.json') as file:
                json.load(file)
    except ValueError:
        raise Failed('acl init failed') from None
    say('INFO', 'acl init success')
    if options.device >= int(os.environ.get('ASCEND_SIM_DEVICES', '8')):
        raise Failed('acl open device %d failed' % options.device)
    say('INFO', 'open device %d success', options.device)
    for what in ('create context', 'create stream', 'get run mode'):
        say('INFO', what + ' success')


def _process(options: Options) -> None:
    process = Process(options)
    try:
        process.load()
        output = options.output or ''
        make_folder(output)
        folder = '%s/%s' % (output, stamp())
        print(folder, flush=True)
        if output:  # else the folder would be in /, where nobody should write
            make_folder(folder)
        if not os.path.isdir(folder):
            say('ERROR', 'current user does not have permission')
            raise Exit(0)
        # The first name decides: whatever holds ".bin" anywhere is a file
        (_folders if options.inputs and '.bin' not in options.inputs[0] else _files)(
            process, options, folder
        )
        if options.writes_acl_json:
            os.remove('acl.json')
            say('INFO', 'delete acl.json success')
    except Failed as error:
        if error.args[0]:
            say('ERROR', error.args[0])
        process.unload()
        raise Failed('Sample process failed') from None
    process.unload()


def main(words: List[str]) -> int:
    """The command; returns its exit status. Raises Abort where the tool dies of a signal."""
    device = 0
    try:
        options = Options(words)
        device, status = options.device, 0
        try:
            _open_device(options)
        except Failed as error:
            say('ERROR', error.args[0])
            raise Failed('Sample init resource failed') from None
        _process(options)
        say(
            'INFO',
            (
                'Execute sample success'
                if old_build()
                else 'pid: %d Execute sample success' % os.getpid()
            ),
        )
    except Exit as error:
        return error.status
    except Failed as error:
        say('ERROR', error.args[0])
        status = FAILED
    for what in (
        'destroy stream',
        'destroy context',
        'reset device is %d' % device,
        'finalize acl',
    ):
        say('INFO', 'end to ' + what)
    return status


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv[1:]))
    except Abort as error:
        sys.stderr.write("terminate called after throwing an instance of '%s\n" % error)
        sys.stdout.flush()
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGABRT)
