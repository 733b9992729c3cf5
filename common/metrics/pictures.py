"""PNGs of an evaluation: galleries for the report, predicted label maps, contact sheets."""

import bisect
import os
import pathlib
import re
from typing import Callable, Container, Dict, List, Sequence, Tuple, Union

import cv2
import numpy as np

from common.errors import UserError
from common.files import atomic, write_json
from common.metrics.labels import Labels

Path = Union[str, os.PathLike]
SAMPLES, WORST = 4, 6  # pictures of a segmentation that a run keeps
SAMPLE_WIDTH = 640  # of the image in such a picture, at most
COLUMNS, MARGIN, CAPTION = 4, 8, 24  # of a sheet; the last two in pixels


class Gallery:
    """Keeps the pictures of lowest `order` that are offered, at most `limit`, as PNGs in `folder`.
    Its gallery.json lists them: {'title', 'pictures': [{'file', 'caption'}]}.

    Those of an earlier evaluation are removed once there is a new one.
    """

    def __init__(self, folder: Path, title: str, limit: int):
        self._folder, self._title, self._limit = pathlib.Path(folder), title, limit
        self._kept: List[Tuple[float, str, str]] = []  # (order, file, caption)

    def offer(self, order: float, name: str, caption: str, draw: Callable[[], np.ndarray]) -> None:
        """draw() -> uint8 RGB [H,W,3] or grey [H,W]; called only if the picture is kept."""
        if not self._kept:
            for old in list(self._folder.glob('*.png')):
                old.unlink()
        entry = (order, name + '.png', caption)
        position = bisect.bisect(self._kept, entry)
        if position >= self._limit:
            return
        save_png('--output_path', self._folder / entry[1], draw())
        self._kept.insert(position, entry)
        if len(self._kept) > self._limit:
            (self._folder / self._kept.pop()[1]).unlink()
        pictures = [{'file': file, 'caption': caption} for _, file, caption in self._kept]
        write_json(self._folder / 'gallery.json', {'title': self._title, 'pictures': pictures})


class Pictures:
    """Writes PNGs of the images that the evaluation of a segmentation sees.

    With cfg.save_predictions those of `save_prediction` for every image. With cfg.output_path, the
    galleries samples/ and worst/ show the chief's first images and those with the most wrong
    pixels: image, truth, prediction and overlay side by side. Their names are the records'
    `filename`, else record_000012 by their number.
    """

    def __init__(self, cfg, folder, is_chief: bool):
        self._folder, self._labels, self._saved = folder, cfg.labels, cfg.save_predictions
        self._bgr = cfg.bgr
        self._seen = 0
        self._galleries: List[Gallery] = []
        if is_chief and cfg.output_path:
            output = pathlib.Path(cfg.output_path)
            self._galleries.append(Gallery(output / 'samples', 'Samples', SAMPLES))
            self._galleries.append(Gallery(output / 'worst', 'Worst images', WORST))

    def write(self, record: Dict[str, np.ndarray]) -> None:
        """record: 'image' uint8 [H,W,3] in the network's order of channels, 'label', 'prediction'
        uint8 [H,W], 'id' the record's number.
        """
        if not self._saved and not self._galleries:
            return
        name, labels, prediction = self._name(int(record['id'])), self._labels, record['prediction']
        image = np.ascontiguousarray(record['image'][..., ::-1] if self._bgr else record['image'])
        if self._saved:
            save_prediction('--save_predictions', self._saved, name, image, prediction, labels)

        def draw():
            colours = labels.colours(prediction)
            row = [('image', image), ('truth', labels.colours(record['label']))]
            row += [('prediction', colours), ('overlay', _overlay(image, colours))]
            return sheet(row, SAMPLE_WIDTH, sharp=('truth', 'prediction'))

        labelled = record['label'] != labels.ignore
        is_correct = (prediction == record['label'])[labelled]
        share = is_correct.mean() if is_correct.size else 1.0
        caption = '%s: %.1f %% of the pixels correct' % (name, 100 * share)
        for gallery, order in zip(self._galleries, (self._seen, share)):
            gallery.offer(order, name, caption, draw)
        self._seen += 1

    def _name(self, number: int) -> str:
        (record,) = self._folder.examples([number], {'filename': bytes})
        name = record['filename'] or b'record_%06d' % number
        return re.sub(r'[^\w.-]', '_', name.decode(errors='replace'))


def save_prediction(
    flag: str, folder: str, name: str, image: np.ndarray, prediction: np.ndarray, labels: Labels
) -> np.ndarray:
    """Writes three PNGs of a prediction uint8 [H,W] of an RGB image [H,W,3]; returns the overlay.

    labelIds/NAME_pred_labelIds.png   labels.ids of the classes, as cityscapesscripts
                                      (CITYSCAPES_RESULTS=.../labelIds) and its server take them
    color/NAME.png                    in the colours of `labels`
    overlay/NAME.png                  the image under these colours
    """
    colours = labels.colours(prediction)
    overlay = _overlay(image, colours)
    for path, picture in (
        ('labelIds/%s_pred_labelIds.png', labels.file_ids(prediction)),
        ('color/%s.png', colours),
        ('overlay/%s.png', overlay),
    ):
        save_png(flag, pathlib.Path(folder, path % name), picture)
    return overlay


def _overlay(image: np.ndarray, colours: np.ndarray) -> np.ndarray:
    return cv2.addWeighted(image, 0.5, colours, 0.5, 0)


def png(image: np.ndarray) -> bytes:
    """Returns uint8 [H,W] or RGB [H,W,3] as a PNG file's content."""
    return cv2.imencode('.png', image if image.ndim == 2 else image[..., ::-1])[1].tobytes()


def save_png(flag: str, path: Path, image: np.ndarray) -> None:
    """Writes a PNG of uint8 [H,W] or RGB [H,W,3]; UserError names the flag if it cannot."""
    try:
        with atomic(path) as temporary:
            temporary.write_bytes(png(image))
    except OSError as error:
        raise UserError(
            '%s: %s could not be written: %s; free space there, or give a folder that you may'
            ' write to' % (flag, path, error.strerror)
        )


def enlarged(image: np.ndarray) -> np.ndarray:
    """A thumbnail that can be seen: small images by a whole factor to at least 96 pixels."""
    factor = -(-96 // min(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def sheet(
    cells: Sequence[Tuple[str, np.ndarray]], width: int, sharp: Container[str] = ()
) -> np.ndarray:
    """RGB pictures under their captions in rows on white, each at most `width` wide.

    cells: [(caption, uint8 [H,W,3])]; all are as high as the first at most. sharp: captions of
    label maps, whose colours are not to be mixed.
    """
    height, full = cells[0][1].shape[:2]
    width = min(width, full)
    height = max(1, round(height * width / full))
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    shape = [rows * (CAPTION + height) + MARGIN, columns * (width + MARGIN) + MARGIN, 3]
    canvas = np.full(shape, 255, np.uint8)
    for number, (caption, picture) in enumerate(cells):
        top = number // columns * (CAPTION + height) + CAPTION
        left = MARGIN + number % columns * (width + MARGIN)
        scale = min(width / picture.shape[1], height / picture.shape[0])
        size = [max(1, round(length * scale)) for length in picture.shape[1::-1]]
        method = cv2.INTER_NEAREST if caption in sharp else cv2.INTER_AREA
        shrunk = cv2.resize(picture, tuple(size), interpolation=method)
        canvas[top : top + size[1], left : left + size[0]] = shrunk
        font = cv2.FONT_HERSHEY_SIMPLEX
        while caption and cv2.getTextSize(caption, font, 0.45, 1)[0][0] > width:
            caption = caption[:-1]
        cv2.putText(canvas, caption, (left, top - 8), font, 0.45, (60, 60, 60), 1, cv2.LINE_AA)
    return canvas
