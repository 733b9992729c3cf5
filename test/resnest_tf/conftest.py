"""Lets the tests of this folder import the modules beside them; a Cityscapes of 9 images, and
records of drawn blobs.
"""

import os
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))
import small_runs  # noqa: E402
from cityscapes_archives import IMAGES, image_files, label_files, write_zip  # noqa: E402
from preparing import write_files  # noqa: E402

from resnest_tf import cityscapes  # noqa: E402


@pytest.fixture
def small_cityscapes(monkeypatch):
    """A Cityscapes of 4, 2 and 3 images. One worker, which saves the start of processes."""
    counts = {split: len(names) for split, names in IMAGES.items()}
    monkeypatch.setattr(cityscapes, 'COUNTS', counts)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0})


@pytest.fixture
def zipped(tmp_path):
    """A folder with the two official archives."""
    write_zip(tmp_path / 'zipped' / 'leftImg8bit_trainvaltest.zip', image_files())
    return write_zip(tmp_path / 'zipped' / 'gtFine_trainvaltest.zip', label_files()).parent


@pytest.fixture
def extracted(tmp_path):
    """A folder with the extracted archives."""
    return write_files(tmp_path / 'extracted', {**image_files(), **label_files()})


@pytest.fixture(scope='session')
def blob_records(once):
    """A folder with train/ (9 records) and val/ (3), see small_runs.py."""
    return once('blob_records', small_runs.write_records)
