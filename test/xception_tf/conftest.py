"""Lets the tests of this folder import the modules beside them, and an ImageNet of 17 images."""

import os
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))
import imagenet_archives  # noqa: E402
from preparing import tar, write_files  # noqa: E402

from xception_tf import imagenet, imagenet_labels  # noqa: E402


@pytest.fixture
def small_imagenet(monkeypatch):
    """An ImageNet of 3 classes, 12 images to train and 5 to validate. One worker, which saves the
    start of processes.
    """
    monkeypatch.setattr(imagenet_labels, 'CLASSES', 3)
    monkeypatch.setattr(imagenet, 'COUNTS', {'train': 12, 'val': 5})
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0})


@pytest.fixture
def official(tmp_path):
    """A folder with the archives of its images, and the list of the classes of those of val."""
    files = {
        'ILSVRC2012_img_train.tar': imagenet_archives.train_tar(),
        'ILSVRC2012_img_val.tar': tar(imagenet_archives.val_images()),
        **imagenet_archives.synset_list(),
    }
    return write_files(tmp_path / 'official', files)
