"""Freezes a checkpoint, converts it, runs it on the whole evaluation split beside the checkpoint itself, and compares.

    python -m offline_inference.run --model wideresnet --config C --model_path CKPT --data_path D --output O --backend onnx|pb

Every other flag is one of the model's configuration (--batch_size 1). Writes O/MODEL.pb, O/MODEL.onnx and O/offline.json. Exit
status 1 if the predictions differ on more than 0.1 % of the images, 2 for what the user can mend.
"""
import hashlib
import json
import os
import pathlib
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import tqdm

from common import checkpoint, evaluation, experiment, metrics, records
from common.errors import UserError, entry_point, suggest
from common.task import Task
from offline_inference import freeze, pb, score, to_onnx

LEAST_EQUAL = 0.999


class Engine(NamedTuple):
    """A model that runs."""
    infer: Callable[[np.ndarray], np.ndarray]   # normalised float32 [--batch_size, H, W, C] -> logits
    files: Dict[str, pathlib.Path]              # what it took, by kind
    software: Dict[str, str]                    # versions beside TensorFlow's


def _pb(task: Task, frozen: pathlib.Path) -> Engine:
    return Engine(pb.load(frozen, task), {'pb': frozen}, {})


def _onnx(task: Task, frozen: pathlib.Path) -> Engine:
    model = frozen.with_suffix('.onnx')
    to_onnx.convert(frozen, model, task.output_name)
    return Engine(to_onnx.load(model, task), {'pb': frozen, 'onnx': model}, to_onnx.software())


# name: (check before anything else takes time, frozen graph -> engine)
BACKENDS = {'onnx': (to_onnx.require, _onnx), 'pb': (lambda: None, _pb)}


def run(task: Task, backend: str, output: pathlib.Path) -> Dict[str, Any]:
    """Checkpoint -> frozen graph -> engine -> comparison -> output/offline.json; returns the backend's entry in that file."""
    require, build = BACKENDS[backend]
    require()
    freeze.make_folder(output)
    found, folder = freeze.match(task), task.folder(task.eval_split)
    frozen = output / (task.name + '.pb')
    print(freeze.freeze(task, found, frozen, folder))
    engine = build(task, frozen)
    result = dict(backend=backend, **compare(task, found, folder, engine.infer),
                  size_bytes={kind: os.path.getsize(str(file)) for kind, file in engine.files.items()},
                  software=dict(experiment.software(), **engine.software))
    _record(task, found, result, output / 'offline.json')
    return result


def compare(task: Task, found: checkpoint.Match, folder: records.Folder, infer: Callable[[np.ndarray], np.ndarray]) -> Dict[str, Any]:
    """Runs every record through the checkpoint's own network and through `infer`, batch by batch, and scores both.

    Latency is that of infer(), milliseconds a batch; the images that fill up the last batch count in images_per_second.
    """
    size = task.cfg.batch_size
    sums: List[metrics.Counts] = [{}, {}]
    agreement, milliseconds = score.Agreement(), []
    with tqdm.tqdm(total=folder.count, desc='offline inference', unit=' images', disable=None, leave=False, dynamic_ncols=True) as bar:
        for batch in freeze.online(task, found, lambda: task.dataset(folder, size, False)):
            if not milliseconds:
                infer(batch.images)     # the first call allocates and compiles
            began = time.perf_counter()
            logits = infer(batch.images)
            milliseconds.append(1000 * (time.perf_counter() - began))
            agreement = agreement.add(score.agreement(batch.logits, logits, batch.features['mask']))
            sums = [metrics.add(total, task.offline_counts(values, batch.features)) for total, values in zip(sums, (batch.logits, logits))]
            bar.update(int(batch.features['mask'].sum()))
    online, offline = (task.metrics(total) for total in sums)
    images = online.pop('images')
    del offline['images']
    return {'images': images, 'batch_size': size, 'online': online, 'offline': offline, 'equal_predictions': agreement.share,
            'max_abs_logit_difference': agreement.largest,
            'latency_ms': {key: round(value, 4) for key, value in metrics.latency(milliseconds).items()},
            'images_per_second': round(1000 * size * len(milliseconds) / sum(milliseconds), 2)}


def _record(task: Task, found: checkpoint.Match, result: Dict[str, Any], path: pathlib.Path) -> None:
    """Writes a backend's entry into offline.json; those of other backends stay if they are of the same checkpoint."""
    prefix = found.checkpoint.path
    # The index holds a checksum of every variable's value.
    head = {'model': task.name, 'checkpoint': os.path.abspath(prefix),
            'checksum': hashlib.sha256(pathlib.Path(prefix + '.index').read_bytes()).hexdigest()}
    try:
        before = json.loads(path.read_text())
        results = before['results'] if before['checksum'] == head['checksum'] else {}
        results = dict(results, **{result['backend']: result})
    except (OSError, ValueError, KeyError, TypeError):
        results = {result['backend']: result}
    evaluation.write_json(str(path), dict(head, results=results))


def table(result: Dict[str, Any]) -> str:
    """What the console shows of a result."""
    rows = ['%-14s%14s%14s' % ('%d images' % result['images'], 'checkpoint', result['backend'])]
    rows += ['%-14s%14.6f%14.6f' % (key, value, result['offline'][key]) for key, value in result['online'].items() if isinstance(value, float)]
    rows += ['same prediction for %.3f %% of them, largest difference of a logit %.3g' % (
        100 * result['equal_predictions'], result['max_abs_logit_difference'])]
    rows += ['a batch of %d: %s; %.1f images/s' % (result['batch_size'], ', '.join(
        '%s %.2f ms' % item for item in result['latency_ms'].items()), result['images_per_second'])]
    rows += ['size: ' + ', '.join('.%s %.2f MB' % (kind, size / 1e6) for kind, size in result['size_bytes'].items())]
    return '\n'.join(rows)


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = freeze.Parser('python -m offline_inference.run', __doc__)
    parser.add_argument('--output', required=True, help='folder for the models and offline.json, such as runs/a/offline')
    parser.add_argument('--backend', default='onnx', help='what runs the model: %s' % ', '.join(BACKENDS))
    args, task, _ = parser.parse(sys.argv[1:] if argv is None else argv)
    if args.backend not in BACKENDS:
        raise UserError('--backend %s is unknown; legal: %s%s' % (args.backend, ', '.join(BACKENDS), suggest(args.backend, BACKENDS)))
    output = pathlib.Path(args.output)
    result = run(task, args.backend, output)
    print(table(result))
    if 'top1' in result['offline']:
        print(score.published_line(result['images'], result['offline']['top1']))
    if not result['equal_predictions'] >= LEAST_EQUAL:
        sys.exit('error: %s is not the same model as the checkpoint: %.3f %% of the predictions are equal, %.1f %% are needed; see %s' % (
            args.backend, 100 * result['equal_predictions'], 100 * LEAST_EQUAL, output / 'offline.json'))


if __name__ == '__main__':
    main()
