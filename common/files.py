"""Files that are either whole or absent."""

import contextlib
import os
import pathlib
import shutil
from typing import Iterator, Union


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
