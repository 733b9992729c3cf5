"""Freezes a checkpoint, runs it with an engine on the whole evaluation split beside the checkpoint
itself, and compares.

    python -m offline_inference.run --model wideresnet --config C --model_path CKPT --data_path D
    --output O --backend onnx|openvino|pb|msame|ais_bench

Every other flag is one of the model's configuration (--batch_size 1). Writes O/MODEL.pb,
O/MODEL.onnx or O/MODEL.om, and O/offline.json; what an earlier run made from the same is taken from
there. Exit status 1 if more than 0.1 % of the predictions, of images or of pixels, differ (1 %
in float16 and bfloat16), 2 for a mistake of the user.
"""

import os
import pathlib
import sys
from typing import Any, Dict, List

from common.errors import UserError, at_least, entry_point
from offline_inference import cli

ON_DEVICE = ('msame', 'ais_bench')
BACKENDS = ('onnx', 'openvino', 'pb', *ON_DEVICE)  # engines.py has them
_FLAG_BACKENDS = {  # of flags that are not for every backend
    'precision': ('openvino',),
    'soc_version': ON_DEVICE,
    'atc_precision_mode': ON_DEVICE,
    'chunk': ON_DEVICE,
    'device_id': ON_DEVICE,
}


def _parse(argv: cli.Argv = None) -> cli.Parsed:
    parser = cli.Parser('run', __doc__)
    parser.add_argument(
        '--output',
        required=True,
        help='folder for the models and offline.json, such as runs/a/offline',
    )
    parser.add_argument('--backend', default='onnx', choices=BACKENDS, help='what runs the model')
    parser.add_conversion()
    parser.add_argument(
        '--precision', choices=cli.PRECISIONS, help='openvino: float32 (default) or bfloat16'
    )
    parser.add_argument(
        '--chunk',
        type=at_least(1),
        help='msame, ais_bench: write, run and delete N batches at a time; default: what 4 GB hold',
    )
    parser.add_argument(
        '--device_id', type=at_least(0), default=0, help='msame, ais_bench: which NPU'
    )
    args, cfg = parser.parse_model(argv)
    for flag, backends in _FLAG_BACKENDS.items():
        if getattr(args, flag) and args.backend not in backends:
            raise UserError(
                '--%s is for %s, not for --backend %s; leave it out'
                % (flag, ' and '.join(backends), args.backend)
            )
    cfg.require_model_path()
    return args, cfg


if __name__ == '__main__':
    entry_point(_parse)()  # before the imports below, which take seconds

import tabulate

from common import host
from common.files import read_json, write_json
from common.metrics import scores
from common.reporting import facts
from offline_inference import freeze, manifest
from offline_inference.engines import ENGINES, Options, suffix
from offline_inference.reference import Reference
from offline_inference.score import ScoreSums, published_line


def run(
    reference: Reference, output: pathlib.Path, backend: str, options: Options
) -> Dict[str, Any]:
    """Checkpoint -> frozen graph -> engine -> comparison -> offline.json; returns the backend's
    entry in that file.
    """
    frozen_dtype = 'float32' if backend in ON_DEVICE else options.input_dtype
    frozen = _frozen(reference, output, frozen_dtype)
    outcome = ENGINES[backend].run(reference, frozen, options)
    half = '_bf16' if options.precision == 'bf16' else ''
    result = dict(
        backend=backend + suffix(options.input_dtype) + half,
        **_figures(reference, outcome.scored, outcome.milliseconds),
        least_equal=outcome.least_equal,
        size_bytes={file.suffix[1:]: file.stat().st_size for file in outcome.files},
        software=dict(host.describe(), **outcome.software),
    )
    if outcome.precision_mode:
        result['precision_mode'] = outcome.precision_mode
    _record(reference, result, output / 'offline.json')
    return result


def _frozen(reference: Reference, output: pathlib.Path, input_dtype: str) -> pathlib.Path:
    """The frozen graph of the checkpoint, made unless an earlier run made the same."""
    path = output / (reference.name + suffix(input_dtype) + '.pb')
    if manifest.is_current(path, **reference.description(input_dtype)):
        print(
            '%s\n%s: taken from an earlier run (the same checkpoint and configuration)'
            % (reference.plan.report, path)
        )
    else:
        print(freeze.freeze(reference, path, input_dtype, real=True))
    return path


def _figures(reference: Reference, scored: ScoreSums, milliseconds: List[float]) -> Dict[str, Any]:
    """What offline.json says about the sums over a split and the times that batches took.

    The images that pad the last batch count in images_per_second.
    """
    online, offline = reference.figures(scored.online), reference.figures(scored.offline)
    images, size = online.pop('images'), reference.cfg.batch_size
    del offline['images']
    return {
        'images': images,
        'batch_size': size,
        'online': online,
        'offline': offline,
        'predictions': scored.agreement.predictions,
        'equal_predictions': scored.agreement.share,
        'max_abs_logit_difference': scored.agreement.largest,
        'latency_ms': {key: round(value, 4) for key, value in scores.latency(milliseconds).items()},
        'images_per_second': round(1000 * size * len(milliseconds) / sum(milliseconds), 2),
    }


def _record(reference: Reference, result: Dict[str, Any], path: pathlib.Path) -> None:
    """Writes a backend's entry into offline.json; entries of the same checkpoint stay."""
    checkpoint = {
        'model': reference.name,
        'checkpoint': os.path.abspath(reference.plan.checkpoint.path),
        'checksum': reference.checksum,
    }
    try:
        earlier = read_json(path)
        results = dict(earlier['results']) if earlier['checksum'] == checkpoint['checksum'] else {}
    except (OSError, ValueError, KeyError, TypeError):
        results = {}
    results[result['backend']] = result
    write_json(path, dict(checkpoint, results=results))


def table(result: Dict[str, Any]) -> str:
    """What the console shows of a result: its figures, and what a report says of it."""
    figures = [
        [key, value, result['offline'][key]]
        for key, value in result['online'].items()
        if isinstance(value, float)
    ]
    header = ['%d images' % result['images'], 'checkpoint', result['backend']]
    lines = [tabulate.tabulate(figures, header, tablefmt='plain', floatfmt='.6f')]
    lines += ['%s: %s' % item for item in facts.offline(result).items()]
    return '\n'.join(lines + ['throughput: %.1f images/s' % result['images_per_second']])


@entry_point
def main(argv: cli.Argv = None) -> None:
    args, cfg = _parse(argv)
    task, output = cli.load(cfg), pathlib.Path(args.output)
    options = Options(**{name: getattr(args, name) for name in Options._fields})
    ENGINES[args.backend].check(Reference(task, cfg), options)
    result = run(Reference.restored(task, cfg), output, args.backend, options)
    print(table(result))
    line = published_line(result['images'], result['offline'])
    if line:
        print(line)
    if not result['equal_predictions'] >= result['least_equal']:
        sys.exit(
            'error: %s is not the same model as the checkpoint: %.3f %% of the predictions are'
            ' equal, %.1f %% are needed; see %s'
            % (
                result['backend'],
                100 * result['equal_predictions'],
                100 * result['least_equal'],
                output / 'offline.json',
            )
        )


if __name__ == '__main__':
    main()
