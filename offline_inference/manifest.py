"""What a file was made of, in a manifest.json beside it, so that files of different models,
checkpoints or settings are not mixed.
"""

import hashlib
import json
import pathlib
from typing import Any, Dict, Optional

from common.errors import UserError
from common.evaluation import evaluation

NAME = 'manifest.json'


def sha256(path: pathlib.Path) -> str:
    """Checksum of a file, read a piece at a time."""
    digest = hashlib.sha256()
    with open(str(path), 'rb') as file:
        for piece in iter(lambda: file.read(1 << 20), b''):
            digest.update(piece)
    return digest.hexdigest()


def digest(facts: Any) -> str:
    """Checksum of what JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def plain(facts: Any) -> Any:
    """The same as JSON gives it back: lists instead of tuples."""
    return json.loads(json.dumps(facts))


def read(folder: pathlib.Path) -> Dict[str, Any]:
    """The manifest of a folder, {} without one; UserError if it cannot be read."""
    path = pathlib.Path(folder) / NAME
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            '%s cannot be read (%s); delete it, and what it stands beside is made anew'
            % (path, error)
        )
    if not isinstance(content, dict):
        raise UserError(
            '%s is no manifest of this program; delete it, or give another folder' % path
        )
    return content


def write(folder: pathlib.Path, content: Dict[str, Any]) -> None:
    """Writes the manifest of a folder, whole or not at all."""
    evaluation.write_json(str(pathlib.Path(folder) / NAME), content)


def record(path: pathlib.Path, **made_of: Any) -> None:
    """Notes in the folder's manifest what the file `path` holds now and what it was made of."""
    write(
        path.parent,
        dict(read(path.parent), **{path.name: dict(sha256=sha256(path), made_of=made_of)}),
    )


def made_of(path: pathlib.Path) -> Optional[Dict[str, Any]]:
    """What the file was made of, with its own 'sha256'; None if nobody noted it. UserError if it
    changed since.
    """
    entry = read(path.parent).get(path.name)
    if not isinstance(entry, dict):
        return None
    if sha256(path) != entry['sha256']:
        raise UserError(
            '%s is not the file that %s describes: it was changed or replaced; make it anew, or'
            ' delete its entry there' % (path, path.parent / NAME)
        )
    return dict(entry['made_of'], sha256=entry['sha256'])


def is_made_of(path: pathlib.Path, **wanted: Any) -> bool:
    """True if the file is there, unchanged, and made of exactly this: it need not be made again."""
    entry = read(path.parent).get(path.name)
    return (
        isinstance(entry, dict)
        and path.is_file()
        and entry['made_of'] == plain(wanted)
        and sha256(path) == entry['sha256']
    )


def same(what: str, found: Dict[str, Any], wanted: Dict[str, Any]) -> None:
    """Raises UserError if two manifests that must agree do not, in a key that both have."""
    for key in wanted:
        if key in found and found[key] != plain(wanted[key]):
            raise UserError(
                '%s does not belong to the other files: its %s is %s, theirs is %s; make it anew'
                ' from the same model and settings' % (what, key, found[key], wanted[key])
            )
