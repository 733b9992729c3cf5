"""Runs for the tests of reporting: the files that training, evaluation and export leave."""

import json

import numpy as np
import yaml

RUN = {
    'kind': 'run',
    'time': 1600000000.0,
    'model': 'wideresnet',
    'device': 'cpu',
    'ranks': 1,
    'global_batch': 64,
    'steps_per_epoch': 22,
    'total_steps': 440,
    'software': {'python': '3.7.16', 'tensorflow': '1.15.0'},
    'resumed_from': 0,
}
START = {
    'kind': 'start',
    'time': 1600000001.0,
    'parameters': 691674,
    'start_seconds': {'imports': 2.0, 'checks': 0.1, 'graph': 1.5, 'session': 1.0, 'step': 2.5},
}
EVAL = {
    'model': 'wideresnet',
    'checkpoint': '/runs/a/wideresnet.ckpt',
    'step': 440,
    'images': 360,
    'loss': 0.43217,
    'top1': 0.91234,
    'top5': 0.98765,
    'images_per_second': 301.25,
}
OFFLINE = {
    'backend': 'onnx',
    'images': 360,
    'online': {'loss': 0.43217, 'top1': 0.91234, 'top5': 0.98765},
    'offline': {'loss': 0.43218, 'top1': 0.90956, 'top5': 0.98765},
    'max_abs_logit_difference': 2.5e-5,
    'equal_predictions': 0.99722,
    'latency_ms': {'mean': 12.34, 'p50': 11.87, 'p90': 14.56, 'p99': 19.01},
    'images_per_second': 81.7,
    'batch_size': 4,
    'size_bytes': {'pb': 2810000, 'onnx': 2790000},
}


def train(step, **change):
    return dict(
        {
            'kind': 'train',
            'step': step,
            'epoch': step / 22,
            'loss': 2.3 * 0.99**step,
            'learning_rate': 0.1,
            'images_per_second': 200.0 + step % 7,
            'time': 1600000000.0 + step,
        },
        **change,
    )


def evaluation(step, top1):
    return {
        'kind': 'eval',
        'step': step,
        'epoch': step / 22,
        'images': 360,
        'loss': 1.1,
        'top1': top1,
        'top5': 0.9,
        'seconds': 1.2,
        'images_per_second': 300.0,
        'time': 1600000000.5 + step,
    }


def write_lines(folder, rows, tail=''):
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows) + tail)


def write_offline(folder, *results):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'offline.json').write_text(
        json.dumps(
            {
                'model': 'wideresnet',
                'checkpoint': '/runs/a/wideresnet.ckpt',
                'results': {result['backend']: result for result in results},
            }
        )
    )


def whole_run(folder, classes=10):
    rows = [RUN, START]
    for step in range(10, 441, 10):
        rows.append(train(step))
        if step % 110 == 0:
            rows.append(
                evaluation(step, {110: 0.5, 220: 0.87654, 330: 0.93211, 440: 0.91234}[step])
            )
    write_lines(
        folder,
        rows
        + [
            {
                'kind': 'end',
                'step': 440,
                'seconds': 3725.4,
                'images_per_second': 229.87,
                'time': 1600000500.0,
            }
        ],
    )
    (folder / 'eval.json').write_text(json.dumps(EVAL))
    write_offline(folder, OFFLINE)
    (folder / 'config.yaml').write_text(
        yaml.safe_dump(
            {
                'model': 'wideresnet',
                'published': {
                    'paper, median of 5': {'top1': 0.9611},
                    'a port': {'top1': 81.45, 'images_per_second': 35},
                },
            }
        )
    )
    matrix = np.eye(classes, dtype=np.int64) * 30
    matrix[3, 5] = 11  # class 3 is taken for class 5 in 11 of 41 images
    np.save(str(folder / 'confusion.npy'), matrix)


def rows_of(text):
    """{first cell: other cells} of the tables in a piece of Markdown, without the rules."""
    cells = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in text.splitlines()
        if line.startswith('|') and not line.startswith('|:--')
    ]
    return {row[0]: row[1:] for row in cells}


def read_tables(text):
    """The tables of a piece of Markdown, each {first cell: other cells}."""
    return [rows_of(part) for part in text.split('\n\n') if part.startswith('|')]
