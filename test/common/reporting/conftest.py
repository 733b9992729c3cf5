"""Lets the tests of this folder import example_runs, and leave the slow pictures out."""

import pathlib
import sys

import pytest

from common.reporting import report

sys.path.append(str(pathlib.Path(__file__).parent))


@pytest.fixture
def text_only(monkeypatch):
    """Reports without pictures, which take most of the time."""
    monkeypatch.setattr(report, '_pictures', lambda run: [])
