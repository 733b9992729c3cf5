"""Freezes a checkpoint, converts it, runs it on the whole evaluation split beside the checkpoint
itself, and compares.

    python -m offline_inference.run --model wideresnet --config C --model_path CKPT --data_path D
    --output O --backend onnx|pb|msame|ais_bench

Every other flag is one of the model's configuration (--batch_size 1). Writes O/MODEL.pb,
O/MODEL.onnx or O/MODEL.om, and O/offline.json. What an earlier run made of the same is taken from
there. Exit status 1 if more than 0.1 % of the predictions, of images or of pixels, differ (1 %
where the device computes in float16), 2 for what the user can mend.
"""

import json
import os
import pathlib
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import tqdm

from common.checkpoints import checkpoint
from common.data import records
from common.errors import UserError, entry_point, suggest
from common.evaluation import evaluation
from common.metrics import scores
from common.task import Task
from common.training import experiment
from offline_inference import ascend, atc, freeze, manifest, pb, results, score, to_onnx

LEAST_EQUAL = 0.999
LEAST_EQUAL_HALF = (
    0.99  # float16 rounds by 1/2048, which turns what two classes share almost equally
)


class Engine(NamedTuple):
    """A model that runs."""

    infer: Callable[
        [np.ndarray], np.ndarray
    ]  # [--batch_size, H, W, C], normalised float32 or uint8 -> logits
    files: Dict[str, pathlib.Path]  # what it took, by kind
    software: Dict[str, str]  # versions beside TensorFlow's


def _pb(task: Task, frozen: pathlib.Path, input_dtype: str) -> Engine:
    return Engine(pb.load(frozen, task, input_dtype), {'pb': frozen}, {})


def _onnx(task: Task, frozen: pathlib.Path, input_dtype: str) -> Engine:
    model = frozen.with_suffix('.onnx')
    to_onnx.convert(frozen, model, task.output_name)
    return Engine(
        to_onnx.load(model, task, input_dtype), {'pb': frozen, 'onnx': model}, to_onnx.software()
    )


# What runs inside this process. name: (check before anything else takes time, frozen graph ->
# engine)
BACKENDS = {'onnx': (to_onnx.require, _onnx), 'pb': (lambda: None, _pb)}
NAMES = list(BACKENDS) + list(ascend.TOOLS)


def run(
    task: Task, backend: str, output: pathlib.Path, options: ascend.Options = ascend.Options()
) -> Dict[str, Any]:
    """Checkpoint -> frozen graph -> engine -> comparison -> output/offline.json; returns the
    backend's entry in that file.
    """
    if backend in BACKENDS:
        BACKENDS[backend][0]()
    else:
        options = ascend.require(task, backend, options)
    freeze.make_folder(output)
    found, folder = freeze.match(task), task.folder(task.eval_split)
    kind = '' if options.input_dtype == 'float32' else '_' + options.input_dtype
    if backend in BACKENDS:
        frozen = _frozen(
            task, found, output / (task.name + kind + '.pb'), folder, options.input_dtype
        )
        engine = BACKENDS[backend][1](task, frozen, options.input_dtype)
        result = compare(task, found, folder, engine.infer, options.input_dtype)
        files, software = engine.files, engine.software
        result['least_equal'] = LEAST_EQUAL
    else:
        frozen = _frozen(
            task, found, output / (task.name + '.pb'), folder, 'float32'
        )  # AIPP normalises
        scored, milliseconds, conversion = ascend.run(
            task, found, folder, frozen, output / (task.name + kind), backend, options
        )
        result = figures(task, scored, milliseconds)
        files, software = (
            {'pb': frozen, 'om': conversion.output},
            {'soc_version': conversion.soc_version},
        )
        exact = (
            conversion.precision_mode in atc.FLOAT_MODES and not conversion.aipp
        )  # AIPP's result is float16
        result.update(
            precision_mode=conversion.precision_mode or 'force_fp16',
            least_equal=LEAST_EQUAL if exact else LEAST_EQUAL_HALF,
        )
    result = dict(
        backend=backend + kind,
        **result,
        size_bytes={name: os.path.getsize(str(file)) for name, file in files.items()},
        software=dict(experiment.software(), **software),
    )
    _record(task, found, result, output / 'offline.json')
    return result


def _frozen(
    task: Task,
    found: checkpoint.Match,
    path: pathlib.Path,
    folder: records.Folder,
    input_dtype: str,
) -> pathlib.Path:
    """The frozen graph of the checkpoint, made unless an earlier run made it of the same."""
    if manifest.is_made_of(path, **freeze.description(task, found, input_dtype)):
        print(
            '%s\n%s: taken from an earlier run (the same checkpoint and configuration)'
            % (found.report, path)
        )
    else:
        print(freeze.freeze(task, found, path, folder, input_dtype))
    return path


def compare(
    task: Task,
    found: checkpoint.Match,
    folder: records.Folder,
    infer: Callable[[np.ndarray], np.ndarray],
    input_dtype: str = 'float32',
) -> Dict[str, Any]:
    """Runs every record through the checkpoint's own network and through `infer`, batch by batch,
    and scores both.

    Latency is that of infer(), milliseconds a batch; the images that fill up the last batch count
    in images_per_second.
    """
    size = task.cfg.batch_size
    scored, milliseconds = results.Scored(), []
    with tqdm.tqdm(
        total=folder.count,
        desc='offline inference',
        unit=' images',
        disable=None,
        leave=False,
        dynamic_ncols=True,
    ) as bar:
        for batch in freeze.online(task, found, lambda: task.dataset(folder, size, False)):
            images = batch.given(input_dtype)
            if not milliseconds:
                infer(images)  # the first call allocates and compiles
            began = time.perf_counter()
            logits = infer(images)
            milliseconds.append(1000 * (time.perf_counter() - began))
            scored = scored.add(
                results.Scored(
                    task.offline_counts(batch.logits, batch.features),
                    task.offline_counts(logits, batch.features),
                    score.agreement(batch.logits, logits, batch.features['mask']),
                )
            )
            bar.update(int(batch.features['mask'].sum()))
    return figures(task, scored, milliseconds)


def figures(task: Task, scored: results.Scored, milliseconds: List[float]) -> Dict[str, Any]:
    """What offline.json says of the sums over a split and of the times that batches took."""
    online, offline = task.metrics(scored.online), task.metrics(scored.offline)
    images = online.pop('images')
    del offline['images']
    return {
        'images': images,
        'batch_size': task.cfg.batch_size,
        'online': online,
        'offline': offline,
        'predictions': scored.agreement.predictions,
        'equal_predictions': scored.agreement.share,
        'max_abs_logit_difference': scored.agreement.largest,
        'latency_ms': {key: round(value, 4) for key, value in scores.latency(milliseconds).items()},
        'images_per_second': round(
            1000 * task.cfg.batch_size * len(milliseconds) / sum(milliseconds), 2
        ),
    }


def _record(
    task: Task, found: checkpoint.Match, result: Dict[str, Any], path: pathlib.Path
) -> None:
    """Writes a backend's entry into offline.json; those of other backends stay if they are of the
    same checkpoint.
    """
    prefix = found.checkpoint.path
    head = {
        'model': task.name,
        'checkpoint': os.path.abspath(prefix),
        'checksum': freeze.checksum(found),
    }
    try:
        before = json.loads(path.read_text())
        results = before['results'] if before['checksum'] == head['checksum'] else {}
        results = dict(results, **{result['backend']: result})
    except (OSError, ValueError, KeyError, TypeError):
        results = {result['backend']: result}
    evaluation.write_json(str(path), dict(head, results=results))


def table(result: Dict[str, Any]) -> str:
    """What the console shows of a result."""
    rows = ['%-23s%14s%17s' % ('%d images' % result['images'], 'checkpoint', result['backend'])]
    rows += [
        '%-23s%14.6f%17.6f' % (key, value, result['offline'][key])
        for key, value in result['online'].items()
        if isinstance(value, float)
    ]
    rows += [
        'same prediction for %.3f %% of %s, largest difference of a logit %.3g'
        % (
            100 * result['equal_predictions'],
            'the pixels' if result['predictions'] > result['images'] else 'them',
            result['max_abs_logit_difference'],
        )
    ]
    rows += [
        'a batch of %d: %s; %.1f images/s'
        % (
            result['batch_size'],
            ', '.join('%s %.2f ms' % item for item in result['latency_ms'].items()),
            result['images_per_second'],
        )
    ]
    rows += [
        'size: '
        + ', '.join(
            '.%s %.2f MB' % (kind, size / 1e6) for kind, size in result['size_bytes'].items()
        )
    ]
    return '\n'.join(rows)


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = freeze.Parser('python -m offline_inference.run', __doc__)
    parser.add_argument(
        '--output',
        required=True,
        help='folder for the models and offline.json, such as runs/a/offline',
    )
    parser.add_argument(
        '--backend', default='onnx', help='what runs the model: %s' % ', '.join(NAMES)
    )
    atc.add_flags(parser)
    parser.add_argument(
        '--chunk',
        type=int,
        help=(
            'msame, ais_bench: write, run and delete N batches at a time; by default what 4 GB hold'
        ),
    )
    parser.add_argument('--device_id', type=int, default=0, help='msame, ais_bench: which NPU')
    args, task, _ = parser.parse(sys.argv[1:] if argv is None else argv)
    if args.backend not in NAMES:
        raise UserError(
            '--backend %s is unknown; legal: %s%s'
            % (args.backend, ', '.join(NAMES), suggest(args.backend, NAMES))
        )
    if args.chunk is not None and args.chunk < 1:
        raise UserError('--chunk %d: give a whole number of batches above 0' % args.chunk)
    given = [
        name
        for name in ('soc_version', 'atc_precision_mode', 'chunk', 'device_id')
        if getattr(args, name) not in (None, 0)
    ]
    if given and args.backend in BACKENDS:
        raise UserError(
            '--%s is for %s, not for --backend %s; leave it out'
            % (given[0], ' and '.join(ascend.TOOLS), args.backend)
        )
    output = pathlib.Path(args.output)
    result = run(
        task,
        args.backend,
        output,
        ascend.Options(**{name: getattr(args, name) for name in ascend.Options._fields}),
    )
    print(table(result))
    line = score.published(result['images'], result['offline'])
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
