"""Lets the tests of this folder import the modules beside them, and an archive that is official."""

import hashlib
import pathlib
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).parent))
from cifar_archives import TEST, TRAIN, packed  # noqa: E402

from wideresnet_tf import cifar, prepare_cifar  # noqa: E402


@pytest.fixture
def small_is_official(monkeypatch, tmp_path):
    """The small cifar10 python archive passes as the official one."""
    archive = packed(tmp_path, 'cifar10', 'python')
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    layouts = [
        layout._replace(md5=md5) if layout.archive == archive.name else layout
        for layout in cifar.LAYOUTS
    ]
    monkeypatch.setattr(cifar, 'LAYOUTS', layouts)
    monkeypatch.setitem(prepare_cifar.COUNTS, 'cifar10', {'train': TRAIN, 'test': TEST})
    return archive
