"""What the label values of a segmentation data set mean. NumPy alone."""

from typing import NamedTuple, Sequence

import numpy as np


class Labels(NamedTuple):
    """Classes of a segmentation: the value c of a label or prediction stands for names[c].

    ignore: the label value of pixels that do not count.
    palette: uint8 [C, 3], RGB.
    ids: uint8 [C], what files of predictions hold for each class.
    """

    names: Sequence[str]
    ignore: int
    palette: np.ndarray
    ids: np.ndarray

    def colours(self, values: np.ndarray) -> np.ndarray:
        """Label values uint8 [...] -> RGB uint8 [..., 3]; whatever is not a class is black."""
        return _table(self.palette)[values]

    def file_ids(self, values: np.ndarray) -> np.ndarray:
        """Label values uint8 [...] -> ids uint8 [...]; whatever is not a class becomes 0."""
        return _table(self.ids)[values]


def _table(entries: np.ndarray) -> np.ndarray:
    table = np.zeros((256, *entries.shape[1:]), np.uint8)
    table[: len(entries)] = entries
    return table
