"""Folders of a run with the few pictures that its report shows."""

import bisect
import os
from typing import Callable, Container, List, Sequence, Tuple

import cv2
import numpy as np

from common.errors import UserError
from common.files import atomic, write_json

LIST = 'gallery.json'  # {'title', 'pictures': [{'file', 'caption'}]}, in the order to show them


class Gallery:
    """Keeps the pictures of lowest `order` that are offered, at most `limit`. `folder` holds one
    PNG each, and LIST; those of an earlier evaluation are removed first.
    """

    def __init__(self, folder: str, title: str, limit: int):
        self._folder, self._title, self._limit = folder, title, limit
        self._kept: List[Tuple[float, str, str]] = []  # (order, file, caption)

    def offer(self, order: float, name: str, caption: str, draw: Callable[[], np.ndarray]) -> None:
        """draw() -> uint8 RGB [H,W,3] or grey [H,W]; called only if the picture is kept."""
        if not self._kept and os.path.isdir(self._folder):
            for old in os.listdir(self._folder):
                if old.endswith('.png'):
                    os.unlink(os.path.join(self._folder, old))
        entry = (order, name + '.png', caption)
        position = bisect.bisect(self._kept, entry)
        if position >= self._limit:
            return
        save_png('--output_path', os.path.join(self._folder, entry[1]), draw())
        self._kept.insert(position, entry)
        for _, file, _ in self._kept[self._limit :]:
            os.unlink(os.path.join(self._folder, file))
        del self._kept[self._limit :]
        pictures = [{'file': file, 'caption': caption} for _, file, caption in self._kept]
        content = {'title': self._title, 'pictures': pictures}
        write_json(os.path.join(self._folder, LIST), content)


def png(image: np.ndarray) -> bytes:
    """Returns uint8 [H,W] or RGB [H,W,3] as a PNG file's content."""
    return cv2.imencode('.png', image if image.ndim == 2 else image[..., ::-1])[1].tobytes()


def save_png(flag: str, path: str, image: np.ndarray) -> None:
    """Writes a PNG of uint8 [H,W] or RGB [H,W,3]; UserError names the flag if it cannot."""
    try:
        with atomic(path) as temporary:
            temporary.write_bytes(png(image))
    except OSError as error:
        raise UserError(
            '%s: %s could not be written: %s; free space there, or give a folder that you may'
            ' write to' % (flag, path, error.strerror)
        )


def sheet(
    cells: Sequence[Tuple[str, np.ndarray]],
    width: int,
    columns: int = 4,
    margin: int = 8,
    sharp: Container[str] = (),
) -> np.ndarray:
    """RGB pictures under their captions in rows on white, each at most `width` wide.

    cells: [(caption, uint8 [H,W,3])]; all are as high as the first at most. sharp: captions of
    label maps, whose colours are not to be mixed.
    """
    height, full = cells[0][1].shape[:2]
    width = min(width, full)
    height = max(1, round(height * width / full))
    line = 24  # of the caption
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    shape = [rows * (line + height) + margin, columns * (width + margin) + margin, 3]
    canvas = np.full(shape, 255, np.uint8)
    for number, (caption, picture) in enumerate(cells):
        top = number // columns * (line + height) + line
        left = margin + number % columns * (width + margin)
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
