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
from typing import Any, Dict, List, Optional, Sequence

from common import host
from common.data import records
from common.errors import UserError, entry_point, suggest
from common.files import parse_json, write_json
from common.metrics import scores
from offline_inference import atc, freeze, manifest
from offline_inference.cli import Parser
from offline_inference.engines import ENGINES, Options
from offline_inference.openvino_engine import PRECISIONS
from offline_inference.reference import Reference
from offline_inference.score import Scored, published_line


def run(
    reference: Reference, backend: str, output: pathlib.Path, options: Options = Options()
) -> Dict[str, Any]:
    """Checkpoint -> frozen graph -> engine -> comparison -> output/offline.json; returns the
    backend's entry in that file.
    """
    folder, engine = reference.folder(), ENGINES[backend]
    kind = '_uint8' if options.input_dtype == 'uint8' else ''
    frozen = _frozen(reference, output, folder, engine.frozen_dtype(options))
    outcome = engine.run(reference, folder, frozen, output / (reference.name + kind), options)
    result = dict(
        backend=backend + kind + ('_bf16' if options.precision == 'bf16' else ''),
        **_figures(reference, outcome.scored, outcome.milliseconds),
        least_equal=outcome.least_equal,
        size_bytes={name: os.path.getsize(str(file)) for name, file in outcome.files.items()},
        software=dict(host.describe(), **outcome.software),
    )
    if outcome.precision_mode:
        result['precision_mode'] = outcome.precision_mode
    _record(reference, result, output / 'offline.json')
    return result


def _frozen(
    reference: Reference, output: pathlib.Path, folder: records.Folder, input_dtype: str
) -> pathlib.Path:
    """The frozen graph of the checkpoint, made unless an earlier run made the same."""
    path = output / (reference.name + ('_uint8' if input_dtype == 'uint8' else '') + '.pb')
    if manifest.is_current(path, **reference.description(input_dtype)):
        print(
            '%s\n%s: taken from an earlier run (the same checkpoint and configuration)'
            % (reference.plan.report, path)
        )
    else:
        print(freeze.freeze(reference, path, folder, input_dtype))
    return path


def _figures(reference: Reference, scored: Scored, milliseconds: List[float]) -> Dict[str, Any]:
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
    head = {
        'model': reference.name,
        'checkpoint': os.path.abspath(reference.plan.checkpoint.path),
        'checksum': reference.checksum,
    }
    try:
        before = parse_json(path.read_text())
        results = dict(before['results']) if before['checksum'] == head['checksum'] else {}
    except (OSError, ValueError, KeyError, TypeError):
        results = {}
    results[result['backend']] = result
    write_json(path, dict(head, results=results))


def table(result: Dict[str, Any]) -> str:
    """What the console shows of a result."""
    rows = ['%-23s%14s%17s' % ('%d images' % result['images'], 'checkpoint', result['backend'])]
    rows += [
        '%-23s%14.6f%17.6f' % (key, value, result['offline'][key])
        for key, value in result['online'].items()
        if isinstance(value, float)
    ]
    latency = ', '.join('%s %.2f ms' % item for item in result['latency_ms'].items())
    sizes = ['.%s %.2f MB' % (kind, size / 1e6) for kind, size in result['size_bytes'].items()]
    return '\n'.join(
        rows
        + [
            'same prediction for %.3f %% of %s, largest difference of a logit %.3g'
            % (
                100 * result['equal_predictions'],
                'the pixels' if result['predictions'] > result['images'] else 'them',
                result['max_abs_logit_difference'],
            ),
            'a batch of %d: %s; %.1f images/s'
            % (result['batch_size'], latency, result['images_per_second']),
            'size: ' + ', '.join(sizes),
        ]
    )


def _parser() -> Parser:
    parser = Parser('run', __doc__)
    parser.add_argument(
        '--output',
        required=True,
        help='folder for the models and offline.json, such as runs/a/offline',
    )
    parser.add_argument(
        '--backend', default='onnx', help='what runs the model: %s' % ', '.join(ENGINES)
    )
    atc.add_flags(parser)
    parser.add_argument(
        '--precision', choices=PRECISIONS, help='openvino: float32 (default) or bfloat16'
    )
    parser.add_argument(
        '--chunk',
        type=int,
        help='msame, ais_bench: write, run and delete N batches at a time; default: what 4 GB hold',
    )
    parser.add_argument('--device_id', type=int, default=0, help='msame, ais_bench: which NPU')
    return parser


def _options(backend: str, options: Options) -> Options:
    """Raises UserError for flags that this backend does not have."""
    if backend not in ENGINES:
        raise UserError(
            '--backend %s is unknown; legal: %s%s'
            % (backend, ', '.join(ENGINES), suggest(backend, ENGINES))
        )
    if options.chunk is not None and options.chunk < 1:
        raise UserError('--chunk %d: give a whole number of batches above 0' % options.chunk)
    for flag, value in options._replace(input_dtype=None)._asdict().items():
        if value not in (None, 0) and flag not in ENGINES[backend].flags:
            backends = [name for name, engine in ENGINES.items() if flag in engine.flags]
            raise UserError(
                '--%s is for %s, not for --backend %s; leave it out'
                % (flag, ' and '.join(backends), backend)
            )
    return options


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    args, task, cfg, _ = _parser().parse_model(argv)
    options = _options(
        args.backend, Options(**{name: getattr(args, name) for name in Options._fields})
    )
    options = ENGINES[args.backend].check(Reference(task, cfg), options)
    output = pathlib.Path(args.output)
    result = run(Reference.restored(task, cfg), args.backend, output, options)
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
