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
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf
import tqdm

from common import evaluation, experiment, metrics, records
from common.errors import UserError, entry_point, suggest
from common.task import Task
from offline_inference import freeze, pb, score, to_onnx

LEAST_EQUAL = 0.999
Infer = Callable[[np.ndarray], np.ndarray]


def _pb(task: Task, frozen: pathlib.Path) -> Tuple[Infer, Dict[str, pathlib.Path], Dict[str, str]]:
    return pb.load(frozen, task), {'pb': frozen}, {}


def _onnx(task: Task, frozen: pathlib.Path) -> Tuple[Infer, Dict[str, pathlib.Path], Dict[str, str]]:
    model = frozen.with_suffix('.onnx')
    to_onnx.convert(frozen, model, task.output_name)
    return to_onnx.load(model, task), {'pb': frozen, 'onnx': model}, to_onnx.software()


# A backend makes of the frozen graph what it runs, and returns infer(images) -> logits, the files and the software that it added.
BACKENDS = {'onnx': _onnx, 'pb': _pb}


def run(task: Task, backend: str, output: pathlib.Path) -> Dict[str, Any]:
    """All steps; returns the backend's entry in offline.json."""
    if backend == 'onnx':
        to_onnx.require()
    folder = task.folder(task.eval_split)
    frozen = output / (task.name + '.pb')
    print(freeze.freeze(task, frozen, folder))
    infer, files, software = BACKENDS[backend](task, frozen)
    result = dict(backend=backend, **compare(task, infer, folder, backend))
    result['size_bytes'] = {kind: os.path.getsize(str(file)) for kind, file in files.items()}
    result['software'] = dict(experiment._software(), **software)
    return result


def compare(task: Task, infer: Infer, folder: records.Folder, title: str) -> Dict[str, Any]:
    """Runs every record through the checkpoint and through `infer`, one batch at a time, and scores both."""
    size = task.cfg.batch_size
    sums: List[metrics.Counts] = [{}, {}]
    agreement, milliseconds = score.Agreement(), []
    batches = freeze.online(task, freeze.match(task), lambda: task.dataset(folder, size, False))
    with tqdm.tqdm(total=folder.count, desc=title, unit=' images', disable=None, leave=False, dynamic_ncols=True) as bar:
        for batch in batches:
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
    offline.pop('images')
    return {'images': images, 'batch_size': size, 'online': online, 'offline': offline, 'equal_predictions': agreement.share,
            'max_abs_logit_difference': agreement.largest, 'latency_ms': metrics.latency(milliseconds),
            'images_per_second': round(1000 * size * len(milliseconds) / sum(milliseconds), 2)}


def record(task: Task, result: Dict[str, Any], path: pathlib.Path) -> None:
    """Writes a backend's entry into offline.json; entries of other backends stay if they are of the same checkpoint."""
    prefix = freeze.match(task).checkpoint.path
    # The index holds a checksum of every variable.
    head = {'model': task.name, 'checkpoint': os.path.abspath(prefix),
            'checksum': hashlib.sha256(pathlib.Path(prefix + '.index').read_bytes()).hexdigest()}
    try:
        before = json.loads(path.read_text())
        results = before['results'] if before['checksum'] == head['checksum'] else {}
    except (OSError, ValueError, KeyError, TypeError):
        results = {}
    evaluation.write_json(str(path), dict(head, results=dict(results, **{result['backend']: result})))


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
    record(task, result, output / 'offline.json')
    print(table(result))
    if 'top1' in result['offline']:
        print(score.published_line(result['images'], result['offline']['top1']))
    if not result['equal_predictions'] >= LEAST_EQUAL:
        sys.exit('error: %s is not the same model as the checkpoint: %.3f %% of the predictions are equal, %.1f %% are needed; see %s' % (
            args.backend, 100 * result['equal_predictions'], 100 * LEAST_EQUAL, output / 'offline.json'))


if __name__ == '__main__':
    main()
