"""Lets the tests of this folder import segmentation_data."""

import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))


@pytest.fixture
def data(tmp_path):
    from segmentation_data import Data

    return Data(tmp_path / 'val')
