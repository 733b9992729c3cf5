"""Files that are either whole or absent."""

import contextlib
import json
import os
import pathlib
import shutil
from typing import Any, Dict, Iterator, Union


@contextlib.contextmanager
def atomic(path: Union[str, os.PathLike]) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`; it is renamed to `path` on success and removed on any
    error.

    The temporary keeps the suffix, so that libraries that look at it (np.save, cv2.imwrite) do the
    right thing. A file or a folder may be made there; parents are created.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name('.%s.%d.tmp%s' % (path.stem, os.getpid(), path.suffix))
    try:
        yield temporary
        if path.is_dir():
            shutil.rmtree(str(path))
        os.replace(str(temporary), str(path))
    finally:
        if temporary.is_dir():
            shutil.rmtree(str(temporary))
        elif temporary.exists():
            temporary.unlink()


def write_json(path: Union[str, os.PathLike], content: Dict[str, Any]) -> None:
    """Writes a mapping as JSON, which has no NaN: ValueError for one."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + '\n')
