"""Files that are either whole or absent."""

import contextlib
import hashlib
import json
import lzma
import os
import pathlib
import platform
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from typing import Any, Dict, Iterator, List, Tuple, Union

from common.errors import UserError

# What zipfile raises besides OSError for an archive that is damaged, encrypted (RuntimeError) or
# compressed in another way (NotImplementedError), and for names that are not text (ValueError).
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
)
_HOST = hashlib.sha1(platform.node().encode()).hexdigest()[:6]


@contextlib.contextmanager
def name_in_errors(path: Union[str, os.PathLike]) -> Iterator[None]:
    """Names `path` in an error of the operating system that names no file, as of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


@contextlib.contextmanager
def atomic(path: Union[str, os.PathLike]) -> Iterator[pathlib.Path]:
    """Yields a temporary path beside `path`; it is renamed to `path` on success and removed on any
    error.

    A file or a folder may be made there; it is on the disk before it gets its name, so that a power
    failure leaves the old or the new one. Parents are created. A file is replaced, a folder that is
    not empty never: UserError. The temporary keeps the suffix, for libraries that look at it
    (np.save, cv2.imwrite). What a killed process of this host left of `path` is removed.
    """
    path = pathlib.Path(path)
    if path.is_dir() and any(path.iterdir()):
        raise UserError('%s is a folder that is not empty; remove it or give another path' % path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    name = '.%s.%s-%d.tmp%s' % (_short(path.stem), _HOST, os.getpid(), path.suffix)
    temporary = path.with_name(name)
    try:
        with name_in_errors(path):
            yield temporary
        for file in [temporary, *temporary.rglob('*')]:
            _sync(file)
        if path.is_dir() and not temporary.is_dir():
            raise UserError('%s is a folder; remove it or give another path' % path)
        os.replace(str(temporary), str(path))
        _sync(path.parent)
    finally:
        remove(temporary)


@contextlib.contextmanager
def temporary_folder(
    name: str, parent: Union[str, os.PathLike, None] = None
) -> Iterator[pathlib.Path]:
    """Yields a new folder in `parent`, by default the system's for temporary files, and removes it
    afterwards; also what a killed process of this host left of that name.
    """
    path = pathlib.Path(parent or tempfile.gettempdir(), _short(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    prefix = '.%s.%s-%d.tmp' % (path.name, _HOST, os.getpid())
    with tempfile.TemporaryDirectory(prefix=prefix, dir=str(path.parent)) as folder:
        yield pathlib.Path(folder)


def _short(name: str) -> str:
    """Returns the beginning of a name: names have at most 255 bytes, and others are added to it."""
    return os.fsencode(name)[:100].decode(errors='ignore')


def _remove_leftovers(path: pathlib.Path) -> None:
    """Removes the temporaries of `path` whose process has ended."""
    stems = '|'.join(re.escape(stem) for stem in map(_short, (path.stem, path.name)))
    name = r'\.(?:%s)\.%s-(\d+)\.tmp.*' % (stems, _HOST)
    for file in list(path.parent.iterdir()):
        match = re.fullmatch(name, file.name)
        if match and not os.path.exists('/proc/' + match.group(1)):
            remove(file)


def remove(path: pathlib.Path) -> None:
    """Removes a file or a folder, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(str(path), ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _sync(path: pathlib.Path) -> None:
    """Waits until a file or folder is on the disk, where the file system can say so."""
    with contextlib.suppress(OSError):
        descriptor = os.open(str(path), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def require_no_pattern(name: str, path: str) -> None:
    """Raises UserError for the path of a checkpoint that TensorFlow, which looks for its files by
    pattern, would not find again. name: the flag or key.
    """
    if re.search(r'\[.*\]|\\', path, re.S):
        raise UserError(
            '%s %s: TensorFlow takes [...] and \\ in the path of a checkpoint for a pattern; give'
            ' a path without them' % (name, path)
        )


def checksum(path: Union[str, os.PathLike], algorithm: str = 'sha256') -> str:
    """Hexadecimal digest of a file, read piece by piece."""
    digest = hashlib.new(algorithm)
    with open(str(path), 'rb') as file:
        for piece in iter(lambda: file.read(1 << 20), b''):
            digest.update(piece)
    return digest.hexdigest()


def read_json(path: Union[str, os.PathLike]) -> Any:
    """Returns what a JSON file in UTF-8 holds; ValueError for another one, also one that is nested
    too deeply for Python.
    """
    return _parse_json(pathlib.Path(path).read_text('utf-8'))


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError('it is nested too deeply')


def write_text(path: Union[str, os.PathLike], text: str) -> None:
    """Writes a text in UTF-8; half a character, which JSON can hold, as its code."""
    with atomic(path) as temporary:
        temporary.write_text(text, 'utf-8', 'backslashreplace')


def write_json(path: Union[str, os.PathLike], content: Dict[str, Any]) -> None:
    """Writes a mapping as JSON, which has no NaN: ValueError for one."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + '\n')


def read_rows(path: Union[str, os.PathLike]) -> Tuple[List[Dict[str, Any]], int]:
    """Returns the rows of a metrics.jsonl, [] without one, and how many lines cannot be read.

    The last line, which a killed or running session may have left half written, does not count.
    """
    path = pathlib.Path(path)
    lines = path.read_text(errors='replace').splitlines() if path.exists() else []
    rows: List[Dict[str, Any]] = []
    broken = 0
    for number, line in enumerate(lines, 1):
        try:
            row = _parse_json(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            row = {}
        if isinstance(row.get('kind'), str) and type(row.get('step', 0)) is int:
            rows.append(row)
        else:
            broken += number < len(lines)
    return rows, broken
