"""manifest.json beside a file says what the file was made from, so that files of different models,
checkpoints or settings are not mixed.
"""

import hashlib
import json
import pathlib
from typing import Any, Dict, Optional

from common.errors import UserError
from common.files import write_json

NAME = 'manifest.json'


def sha256(path: pathlib.Path) -> str:
    """Checksum of a file, read piece by piece."""
    digest = hashlib.sha256()
    with open(str(path), 'rb') as file:
        for piece in iter(lambda: file.read(1 << 20), b''):
            digest.update(piece)
    return digest.hexdigest()


def digest(content: Any) -> str:
    """Checksum of anything that JSON can hold; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def plain(content: Any) -> Any:
    """The same as JSON returns it: lists instead of tuples."""
    return json.loads(json.dumps(content))


def read(folder: pathlib.Path) -> Dict[str, Any]:
    """The manifest of a folder, {} without one; UserError if it cannot be read."""
    path = pathlib.Path(folder) / NAME
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            '%s cannot be read (%s); delete it, and the files beside it are made again'
            % (path, error)
        )
    if not isinstance(content, dict):
        raise UserError(
            '%s is not a manifest of this program; delete it, or give another folder' % path
        )
    return content


def write(folder: pathlib.Path, content: Dict[str, Any]) -> None:
    """Replaces the manifest of a folder, atomically."""
    write_json(pathlib.Path(folder) / NAME, content)


def record(path: pathlib.Path, **sources: Any) -> None:
    """Notes in the folder's manifest the content of the file `path` and what it was made from."""
    entry = dict(sha256=sha256(path), made_of=sources)
    write(path.parent, dict(read(path.parent), **{path.name: entry}))


def _entry(path: pathlib.Path) -> Dict[str, Any]:
    """What the folder's manifest says of a file, {} if nothing or if that is damaged."""
    entry = read(path.parent).get(path.name)
    whole = isinstance(entry, dict) and isinstance(entry.get('made_of'), dict)
    return entry if whole and 'sha256' in entry else {}


def sources(path: pathlib.Path) -> Optional[Dict[str, Any]]:
    """What a file was made from, with its own 'sha256'; None if no manifest mentions it.

    Raises UserError if the file has changed since.
    """
    entry = _entry(path)
    if not entry:
        return None
    if sha256(path) != entry['sha256']:
        raise UserError(
            '%s is not the file that %s describes: it was changed or replaced; make it again, or'
            ' delete its entry there' % (path, path.parent / NAME)
        )
    return dict(entry['made_of'], sha256=entry['sha256'])


def is_current(path: pathlib.Path, **wanted: Any) -> bool:
    """True if the file exists, is unchanged, and was made from exactly this."""
    entry = _entry(path)
    return (
        bool(entry)
        and path.is_file()
        and entry['made_of'] == plain(wanted)
        and sha256(path) == entry['sha256']
    )


def require_same(what: str, found: Dict[str, Any], wanted: Dict[str, Any]) -> None:
    """Raises UserError if two descriptions differ in a key that both have."""
    for key in wanted:
        if key in found and found[key] != plain(wanted[key]):
            raise UserError(
                '%s does not belong to the other files: its %s is %s, theirs is %s; make it again'
                ' from the same model and settings' % (what, key, found[key], wanted[key])
            )
