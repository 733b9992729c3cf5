"""--predict: prints and writes predictions for image files; see command_line.py."""

import csv
import os
import pathlib
import sys
from typing import Any, Dict, List, Optional, Sequence

import cv2
import numpy as np

from common.checkpoints.checkpoint import Checkpoint
from common.data import images
from common.errors import UserError
from common.evaluation import predict
from common.files import atomic, write_json
from common.metrics.pictures import save_png, save_prediction, sheet
from common.task import Task

MOST = 40  # images on the contact sheet


def run(task: Task, cfg: Any, paths: Sequence[str], names_file: Optional[str]) -> None:
    """Predicts the files and folders `paths`; names_file: the classes, one a line."""
    checkpoint = os.path.abspath(Checkpoint(cfg.model_path).path)
    output = pathlib.Path(cfg.output_path or os.path.dirname(checkpoint))
    files = find(paths)
    skipped: Dict[str, str] = {}
    names = [] if predict.is_dense(cfg) else predict.class_names(task, cfg, names_file)
    predictions = predict.run(task, cfg, files, skipped)
    if predict.is_dense(cfg):
        results, written = _write_labels(cfg, predictions, output), output / 'contact_sheet.png'
    else:
        results, written = _write_classes(predictions, names, output), output / 'predictions.csv'
    content = dict(model=task.name, checkpoint=checkpoint, predictions=results, skipped=skipped)
    write_json(output / 'predictions.json', content)
    summary = '%d of %d images: %s, %s'
    print(summary % (len(results), len(files), output / 'predictions.json', written))
    for file, why in skipped.items():
        sys.stderr.write('skipped %s: %s\n' % (file, why))
    if skipped:
        sys.stderr.write('error: %d of %d images could not be read\n' % (len(skipped), len(files)))
        sys.exit(1)


def find(paths: Sequence[str]) -> List[pathlib.Path]:
    """Returns the named files, and in place of a folder the image files below it, sorted. UserError
    for a folder without any.
    """
    files = []
    for path in map(pathlib.Path, paths):
        matches = sorted(path.rglob('[!.]*')) if path.is_dir() else [path]
        if path.is_dir():
            matches = [file for file in matches if file.suffix.lower() in images.SUFFIXES]
        if not matches:
            suffixes = ', '.join(images.SUFFIXES)
            raise UserError('--predict %s: the folder holds no image (%s)' % (path, suffixes))
        files += matches
    return files


def _write_classes(
    predictions: Sequence[predict.Result], names: Sequence[str], output: pathlib.Path
) -> List[Dict[str, Any]]:
    """Prints the likeliest classes and writes predictions.csv, a line for each image and rank."""
    results: List[Dict[str, Any]] = [
        {'file': str(file), 'top': predict.ranking(logits, names)} for file, logits in predictions
    ]
    with atomic(output / 'predictions.csv') as temporary, open(
        str(temporary), 'w', newline='', encoding='utf-8'
    ) as table:
        writer = csv.writer(table)
        writer.writerow(['file', 'rank', 'class', 'name', 'probability'])
        for result in results:
            print(result['file'])
            for rank, top in enumerate(result['top'], 1):
                print('  %6.2f %%  %s' % (100 * top['probability'], top['name']))
                row = [result['file'], rank, top['class'], top['name']]
                writer.writerow(row + ['%.6f' % top['probability']])
    return results


def _write_labels(
    cfg: Any, predictions: Sequence[predict.Result], output: pathlib.Path
) -> List[Dict[str, Any]]:
    """Writes the pictures of each image; returns the share of the pixels of each class."""
    results, taken = [], set()
    cells: List[np.ndarray] = []
    for file, prediction in predictions:
        image = images.decode(file.read_bytes())
        size = image.shape[1::-1]
        prediction = cv2.resize(prediction, size, interpolation=cv2.INTER_NEAREST)
        name, number = file.stem, 2
        while name in taken:  # of another folder
            name, number = '%s_%d' % (file.stem, number), number + 1
        taken.add(name)
        overlay = save_prediction('--output_path', str(output), name, image, prediction, cfg.labels)
        if len(cells) < MOST:
            cells.append((name, overlay))
        counts = np.bincount(prediction.ravel(), minlength=cfg.num_classes) / prediction.size
        shares = {cfg.labels.names[index]: round(counts[index], 4) for index in counts.nonzero()[0]}
        results.append({'file': str(file), 'name': name, 'shares': shares})
    if cells:
        save_png('--output_path', str(output / 'contact_sheet.png'), sheet(cells, width=480))
    return results
