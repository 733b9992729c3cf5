"""python3 -m ais_bench: runs the model on a folder of files of one batch each, writes the results
and a summary. Packing of smaller files and dynamic models are not imitated.
"""

import argparse
import json
import logging
import os
import re
import stat
import sys
import time

import numpy as np
from offline import om

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format='[%(levelname)s] %(message)s')
log = logging.getLogger()


def _arguments():
    parser = argparse.ArgumentParser(prog='ais_bench')
    parser.add_argument('--model', '-m', required=True)
    parser.add_argument('--input', '-i', required=True)
    parser.add_argument('--output', '-o', required=True)
    parser.add_argument('--output_dirname', required=True)
    parser.add_argument('--outfmt', default='BIN', choices=['BIN'])
    parser.add_argument('--device', '-d', type=int, default=0)
    return parser.parse_args()


def _natural(name):
    return [int(part) if part.isdigit() else part.lower() for part in re.split('([0-9]+)', name)]


def _fail(text, *values):
    log.error(text, *values)
    raise RuntimeError()


def _check(path, forbidden=stat.S_IWGRP | stat.S_IWOTH):
    """Refuses, as releases since 2023 do, soft links, files that others may write, and other
    characters in the whole path.
    """
    path = os.path.abspath(path)
    if re.search(r'[^_A-Za-z0-9/.-]', path):
        _fail('path contains illegal char, legal chars include A-Z a-z 0-9 _ - / .')
    if os.path.islink(path):
        _fail(
            'path :%s is a soft link, not supported, please import file(or directory) directly',
            path,
        )
    if os.path.exists(path) and os.stat(path).st_mode & forbidden:
        _fail(
            'The file %s is group writable, or is others writable, as import file(or directory),'
            ' permission should not be over 0o755(rwxr-xr-x)',
            path,
        )


def _load(path):
    try:
        return om.Model(path)
    except om.OmError as error:
        raise RuntimeError('load model from file failed: %s' % error) from None


def main():
    """The command."""
    arguments = _arguments()
    for path in (arguments.model, arguments.input):
        _check(path)
    _check(arguments.output, stat.S_IWGRP | stat.S_IRWXO)
    model = _load(arguments.model)
    (taken,) = model.inputs
    folder = os.path.join(arguments.output, arguments.output_dirname)
    os.makedirs(folder, 0o755, exist_ok=True)
    names = [name for name in os.listdir(arguments.input) if name.endswith('.bin')]
    if not names:
        _fail('%s of input args not find valid file', arguments.input)
    times, files = [], {}
    for position, name in enumerate(sorted(names, key=_natural)):
        path = os.path.join(arguments.input, name)
        if os.path.islink(path):
            _fail('Softlink is not allowed to be opened. %s', path)
        with open(path, 'rb') as file:
            data = file.read()
        if len(data) != om.nbytes(taken):
            _fail('arg0 tensorsize: %d filesize: %d not match', om.nbytes(taken), len(data))
        begin = time.perf_counter()
        outputs = model.run([data])
        times.append(1000 * (time.perf_counter() - begin))
        files[position] = {'infiles': [path], 'outfiles': []}
        for index, output in enumerate(outputs):
            result = os.path.join(folder, '%s_%d.bin' % (name.split('.')[0], index))
            output.tofile(result)
            files[position]['outfiles'].append(result)
    mean, batch = np.mean(times), taken['shape'][0]
    log.info('NPU_compute_time (ms): mean = %s', mean)
    with open(folder + '_summary.json', 'w') as file:
        json.dump(
            {'filesinfo': files, 'throughput': 1000 * batch / mean, 'npu_compute_time_list': times},
            file,
        )


if __name__ == '__main__':
    main()
