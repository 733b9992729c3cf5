"""manifest.json says what a folder, or each file in it, was made from, so that files of different
models, checkpoints or settings are not mixed.

Of a folder that is written as a whole it holds {'sources': ..., 'files': {name: SHA-256},
'checksum': of these}, of single files {name: {'sources': ..., 'sha256': ...}}.
"""

import hashlib
import json
import pathlib
import shutil
from typing import Any, Dict, Optional

from common.errors import UserError
from common.files import checksum, read_json, write_json

NAME = 'manifest.json'


def digest(content: Any) -> str:
    """Returns the SHA-256 of anything that JSON can hold, whatever the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def as_json(content: Any) -> Any:
    """Returns the content as JSON gives it back, with lists instead of tuples."""
    return json.loads(json.dumps(content))


def read(folder: pathlib.Path) -> Dict[str, Any]:
    """Returns the manifest of a folder, {} without one; UserError if it cannot be read."""
    path = folder / NAME
    try:
        content = read_json(path)
        if not isinstance(content, dict):
            raise ValueError('it is not of this program')
        return content
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            '%s cannot be read (%s); delete it, and the files beside it are made again, or give'
            ' another folder' % (path, error)
        )


# ---- folders -------------------------------------------------------------------------------------


def seal(folder: pathlib.Path, sources: Dict[str, Any], **notes: Any) -> None:
    """Notes what a folder was made from, and the content of every file in it."""
    paths = [path for path in folder.rglob('*') if path.is_file()]
    files = {str(path.relative_to(folder)): checksum(path) for path in paths}
    content = as_json(dict(sources=sources, files=files, **notes))
    write_json(folder / NAME, dict(content, checksum=digest(content)))


def sealed(folder: pathlib.Path) -> Optional[Dict[str, Any]]:
    """Returns the manifest of a folder that `seal` finished, None of another folder. UserError if a
    file in it is missing or has changed.
    """
    content = read(folder)
    if not isinstance(content.get('sources'), dict) or not isinstance(content.get('files'), dict):
        return None
    signed = {key: value for key, value in content.items() if key != 'checksum'}
    if content.get('checksum') != digest(signed):
        raise UserError('%s is damaged; write the folder again' % (folder / NAME))
    for name, written in sorted(content['files'].items()):
        if not (folder / name).is_file() or checksum(folder / name) != written:
            raise UserError(
                '%s: %s is missing, or not the file that was written; write the folder again'
                % (folder, name)
            )
    return content


def current(folder: pathlib.Path, sources: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Returns the manifest of a folder that is undamaged and made from exactly this, else None."""
    try:
        content = sealed(folder)
    except UserError:
        return None
    return content if content and content['sources'] == as_json(sources) else None


def remove_earlier(folder: pathlib.Path) -> None:
    """Removes what an earlier run wrote to `folder`; UserError if it holds anything else."""
    if not folder.exists():
        return
    if not folder.is_dir() or any(folder.iterdir()) and 'files' not in read(folder):
        raise UserError('--output %s holds other files; give a new folder' % folder)
    shutil.rmtree(folder)


# ---- files ---------------------------------------------------------------------------------------


def record(path: pathlib.Path, **sources: Any) -> None:
    """Notes in the manifest beside a file what it was made from, and its content."""
    entry = dict(sha256=checksum(path), sources=sources)
    write_json(path.parent / NAME, dict(read(path.parent), **{path.name: entry}))


def _entry(path: pathlib.Path) -> Dict[str, Any]:
    """Returns what the manifest beside a file says of it, {} if nothing or if that is damaged."""
    entry = read(path.parent).get(path.name)
    is_complete = isinstance(entry, dict) and isinstance(entry.get('sources'), dict)
    return entry if is_complete and 'sha256' in entry else {}


def sources(path: pathlib.Path) -> Optional[Dict[str, Any]]:
    """Returns what a file was made from, and its 'sha256'; None if no manifest mentions it.
    UserError if the file has changed since.
    """
    entry = _entry(path)
    if not entry:
        return None
    if checksum(path) != entry['sha256']:
        raise UserError(
            '%s is not the file that %s describes: it was changed or replaced; make it again, or'
            ' delete its entry there' % (path, path.parent / NAME)
        )
    return dict(entry['sources'], sha256=entry['sha256'])


def is_current(path: pathlib.Path, **sources: Any) -> bool:
    """Whether the file exists, is unchanged, and was made from exactly this."""
    entry = _entry(path)
    has_same_sources = bool(entry) and entry['sources'] == as_json(sources)
    return has_same_sources and path.is_file() and checksum(path) == entry['sha256']


def require_same(name: str, description: Dict[str, Any], expected: Dict[str, Any]) -> None:
    """Raises UserError if two descriptions differ in a key that both have."""
    for key in expected:
        if key in description and description[key] != as_json(expected[key]):
            raise UserError(
                '%s does not belong to the other files: its %s is %s, theirs is %s; make it again'
                ' from the same model and settings' % (name, key, description[key], expected[key])
            )
