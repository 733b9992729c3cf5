"""python3 -m ais_bench: packs files into batches, runs the model, splits the results, writes them
and a summary.
"""

import argparse
import json
import logging
import math
import os
import re
import sys
import time

import numpy as np
from tqdm import tqdm

from ais_bench.infer.interface import InferSession

PURE, PADDING = 'pure_infer_data', 'padding_infer_fake_file'
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format='[%(levelname)s] %(message)s')
log = logging.getLogger()


def _positive(text):
    if int(text) <= 0:
        raise argparse.ArgumentTypeError('%s is an invalid positive int value' % text)
    return int(text)


def _count(text):
    if int(text) < 0:
        raise argparse.ArgumentTypeError('%s is an invalid nonnegative int value' % text)
    return int(text)


def _bool(text):
    if text.lower() not in ('yes', 'true', 't', 'y', '1', 'no', 'false', 'f', 'n', '0'):
        raise argparse.ArgumentTypeError(
            'Boolean value expected true, 1, false, 0 with case insensitive.'
        )
    return text.lower() in ('yes', 'true', 't', 'y', '1')


def _device(text):
    if not 0 <= int(text) <= 255:
        raise argparse.ArgumentTypeError(
            'device:%s is invalid. valid value range is [0, 255]' % text
        )
    return int(text)


def _arguments():
    parser = argparse.ArgumentParser(prog='ais_bench')
    parser.add_argument('--model', '-m', required=True)
    parser.add_argument('--input', '-i', default=None)
    parser.add_argument('--output', '-o', default=None)
    parser.add_argument('--output_dirname', default=None)
    parser.add_argument('--outfmt', default='BIN', choices=['NPY', 'BIN', 'TXT'])
    parser.add_argument('--loop', '-l', type=_positive, default=1)
    parser.add_argument('--debug', type=_bool, default=False)
    parser.add_argument('--device', '-d', type=_device, default=0)
    parser.add_argument('--dymBatch', type=int, default=0)
    parser.add_argument('--batchsize', type=_positive, default=None)
    parser.add_argument('--pure_data_type', default='zero', choices=['zero', 'random'])
    parser.add_argument('--output_batchsize_axis', type=_count, default=0)
    parser.add_argument('--run_mode', default='array', choices=['array', 'files', 'tensor', 'full'])
    parser.add_argument('--display_all_summary', type=_bool, default=False)
    parser.add_argument('--warmup_count', type=_count, default=1)
    arguments = parser.parse_args()
    if arguments.output is None and arguments.output_dirname is not None:
        log.error(
            "parameter --output_dirname cann't be used alone. Please use it together with the"
            ' parameter --output!\n'
        )
        raise RuntimeError('error bad parameters --output_dirname')
    return arguments


def _content(path):
    """The file's bytes: those of the array of an .npy, everything of another file."""
    return np.load(path).tobytes() if path.lower().endswith('.npy') else open(path, 'rb').read()


def _listed(folder):
    names = [name for name in os.listdir(folder) if name.endswith(('.npy', '.NPY', '.bin', '.BIN'))]
    if not names:
        log.error(
            '%s of input args not find valid file,valid file format:[*.npy *.NPY *.bin *.BIN]',
            folder,
        )
        raise RuntimeError()
    return [
        os.path.join(folder, name)
        for name in sorted(
            names,
            key=lambda name: [
                int(part) if part.isdigit() else part.lower() for part in re.split('([0-9]+)', name)
            ],
        )
    ]


def _batches(text, inputs):
    """[for each run [for each input [file, ...]]]; the last batch is filled up with PADDING."""
    if text is None:
        return [[[PURE] for _ in inputs]]
    given = text.split(',')
    if os.path.isdir(given[0]):
        if len(given) != len(inputs) or not all(os.path.isdir(path) for path in given):
            log.error(
                'Invalid args. args input dir num:%d not equal to model inputs num:%d',
                len(given),
                len(inputs),
            )
            raise RuntimeError()
        files = [_listed(path) for path in given]
    elif os.path.isfile(given[0]) and all(os.path.isfile(path) for path in given):
        each = max(len(given) // len(inputs), 1)
        files = [given[start : start + each] for start in range(0, len(given), each)]
    else:
        log.error('Invalid args. %s  of --input is invalid', given[0])
        raise RuntimeError()
    if len(files) != len(inputs):
        log.error('fileslist:%d intensor:%d not match', len(files), len(inputs))
        raise RuntimeError()
    size, wanted = len(_content(files[0][0])), inputs[0].realsize
    if not size or wanted % size:
        log.error('arg0 tensorsize: %d filesize: %d not match', wanted, size)
        raise RuntimeError()
    count = wanted // size
    runs = math.ceil(len(files[0]) / count)
    log.info(
        'get filesperbatch files0 size:%d tensor0size:%d filesperbatch:%d runcount:%d',
        size,
        wanted,
        count,
        runs,
    )
    return [
        [(names[run * count : (run + 1) * count] + [PADDING] * count)[:count] for names in files]
        for run in range(runs)
    ]


def _feed(names, wanted, kind):
    if names == [PURE]:
        return (
            np.random.randint(0, 256, wanted, np.uint8)
            if kind == 'random'
            else np.zeros(wanted, np.uint8)
        )
    return np.frombuffer(
        b''.join(_content(names[0] if name == PADDING else name) for name in names), np.uint8
    )


def _save(outputs, names, position, arguments, folder, files):
    """Results of one batch, one file for each input file and output; `files` learns who came from
    whom.
    """
    for index, output in enumerate(outputs):
        axis = arguments.output_batchsize_axis
        if axis >= output.ndim or output.shape[axis] % len(names[0]):
            log.error(
                'save out files error array shape:%s files_count_perbatch:%d',
                output.shape,
                len(names[0]),
            )
            raise RuntimeError()
        for sample, part in enumerate(np.array_split(output, len(names[0]), axis)):
            if names[0][sample] == PADDING:
                continue
            path = os.path.join(
                folder,
                '%s_%d.%s'
                % (
                    os.path.basename(names[0][sample]).split('.')[0],
                    index,
                    arguments.outfmt.lower(),
                ),
            )
            entry = files.setdefault(
                position * len(names[0]) + sample,
                {'infiles': [item[sample] for item in names], 'outfiles': []},
            )
            entry['outfiles'].append(path)
            if arguments.outfmt == 'NPY':
                np.save(path, part)
            elif arguments.outfmt == 'BIN':
                part.tofile(path)
            else:
                with open(path, 'w') as file:
                    for row in part.reshape(-1, part.shape[-1]):
                        file.write(
                            ''.join(
                                ('%f ' if part.dtype.kind == 'f' else '%d ') % value
                                for value in row
                            )
                            + '\n'
                        )


def _report(times, batch, arguments, files, folder):
    def statistics(values):
        functions = (
            ('min', np.min),
            ('max', np.max),
            ('mean', np.mean),
            ('median', np.median),
            ('percentile(99%)', lambda x: np.percentile(x, 99)),
        )
        return dict(
            {key: float(function(values)) if values else 0.0 for key, function in functions},
            count=len(values),
        )

    compute = statistics(times)
    throughput = 1000 * batch / compute['mean']
    log.info('-----------------Performance Summary------------------')
    for key, values in (
        ('H2D_latency', statistics([])),
        ('NPU_compute_time', compute),
        ('D2H_latency', statistics([])),
    ):
        if key == 'NPU_compute_time' or arguments.display_all_summary:
            log.info(
                '%s (ms): ' % key
                + ', '.join('%s = %s' % (name, values[name]) for name in values if name != 'count')
            )
    log.info(
        'throughput 1000*batchsize.mean(%s)/NPU_compute_time.mean(%s): %s',
        batch,
        compute['mean'],
        throughput,
    )
    log.info('------------------------------------------------------')
    if folder is not None:
        with open(folder + '_summary.json', 'w') as file:
            json.dump(
                {
                    'filesinfo': files,
                    'args': sys.argv,
                    'NPU_compute_time': compute,
                    'H2D_latency': statistics([]),
                    'D2H_latency': statistics([]),
                    'throughput': throughput,
                    'npu_compute_time_list': times,
                    'pid': os.getpid(),
                },
                file,
            )


def main():
    """The command."""
    arguments = _arguments()
    session = InferSession(arguments.device, arguments.model, None, arguments.debug)
    if arguments.dymBatch:
        session.set_dynamic_batchsize(arguments.dymBatch)
    inputs = session.get_inputs()
    batch = arguments.batchsize
    if batch is None:
        batch = inputs[0].shape[0]
        log.info('try get model batchsize:%d', batch)
    folder, files = None, {}
    if arguments.output is not None:
        folder = os.path.join(
            arguments.output, arguments.output_dirname or time.strftime('%Y_%m_%d-%H_%M_%S')
        )
        os.makedirs(folder, 0o755, exist_ok=True)
        log.info('output path:%s', folder)
    batches = _batches(arguments.input, inputs)
    for _ in range(arguments.warmup_count):
        session.run(
            [
                _feed(names, item.realsize, arguments.pure_data_type)
                for names, item in zip(batches[0], inputs)
            ]
        )
    session.reset_sumaryinfo()
    session.set_loop_count(arguments.loop)
    log.info('warm up %d done', arguments.warmup_count)
    for position, names in enumerate(
        tqdm(batches, file=sys.stdout, desc='Inference %s Processing' % arguments.run_mode)
    ):
        outputs = session.run(
            [
                _feed(one, item.realsize, arguments.pure_data_type)
                for one, item in zip(names, inputs)
            ]
        )
        if folder is not None:
            _save(outputs, names, position, arguments, folder, files)
    _report(session.sumary().exec_time_list, batch, arguments, files, folder)
    session.finalize()


if __name__ == '__main__':
    main()
