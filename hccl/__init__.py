"""Several devices: rank tables for HCCL (rank_table) and one process per device (launch). Standard
library only.

CANN has a Python package of this name too: npu_bridge imports hccl.manage and hccl.split from it.
Where it is on sys.path it becomes `hccl`, with its own __init__, and this folder is only added to
the end of its __path__.
"""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder

_here = os.path.dirname(os.path.abspath(__file__))
# A folder with a rank_table is this one, or another copy of it.
_others = [
    path for path in sys.path if not os.path.isfile(os.path.join(path, 'hccl', 'rank_table.py'))
]
_cann = PathFinder.find_spec(__name__, _others)
if _cann and _cann.loader:
    _module = importlib.util.module_from_spec(_cann)
    _module.__path__.append(_here)
    sys.modules[__name__] = _module
    _cann.loader.exec_module(_module)
elif _cann:  # a folder without __init__.py
    __path__ += list(_cann.submodule_search_locations)  # noqa: F821 (of every package)
