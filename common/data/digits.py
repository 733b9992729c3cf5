"""scikit-learn's handwritten digits: a data set that needs no download."""

from typing import Dict, Tuple

import cv2
import numpy as np

TRAIN, TEST = 1437, 360


def load(size: int) -> Dict[str, Tuple[np.ndarray, np.ndarray]]:
    """Returns a fixed, stratified split: {'train': (images uint8 [1437, size, size], labels int64
    [1437]), 'test': ([360, ...], [360])}, enlarged from 8x8 by cubic interpolation.
    """
    from sklearn.datasets import load_digits  # slow to import
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    large = [
        cv2.resize(
            (image * (255 / 16)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
        )
        for image in digits.images
    ]
    images = np.clip(np.rint(large), 0, 255).astype(np.uint8)
    parts = train_test_split(
        np.arange(len(images)), test_size=TEST, stratify=digits.target, random_state=0
    )
    return {
        split: (images[part], digits.target[part]) for split, part in zip(('train', 'test'), parts)
    }
