"""What the commands that prepare records share."""

import contextlib
import gzip
import pathlib
import sys
import tarfile
import zlib
from typing import Any, Callable, Dict, Iterator, Optional

from common import errors
from common.data import records

# Of a schema, see record_writer.write.
TEXT = {'kind': 'bytes', 'dtype': 'string', 'shape': []}
INT64 = {'kind': 'int64', 'dtype': 'int64', 'shape': []}


def pixels(*shape: int) -> Dict[str, Any]:
    """Returns the schema of raw pixels."""
    return {'kind': 'bytes', 'dtype': 'uint8', 'shape': list(shape)}


class Parser(errors.Parser):
    """The flags of a command that prepares records. doc: what --help says first; output: what
    --output gets.
    """

    def __init__(self, prog: str, doc: str, output: str):
        super().__init__(prog=prog, description=doc)
        self.add_argument(
            '--output', required=True, type=pathlib.Path, help='folder to make %s in' % output
        )


@contextlib.contextmanager
def open_tar(path: pathlib.Path, mode: str = 'r', start: int = 0) -> Iterator[tarfile.TarFile]:
    """Opens the tar archive at byte `start` of a file; UserError if what is then read of it is
    damaged. mode: 'r' takes packed ones too, 'r:' does not.
    """
    with open(str(path), 'rb') as source:
        source.seek(start)
        try:
            with tarfile.open(fileobj=source, mode=mode) as archive:
                yield archive
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            place = ', in the one at byte %d' % start if start else ''
            raise errors.UserError(
                '%s: not a readable tar archive (%s%s); download it again' % (path, error, place)
            )


def archive_files(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yields the files in a tar archive. ReadError if it does not end with an empty block, as
    tarfile takes a damaged header for the end. A packed one is read to its end, to its checksum.
    """
    for member in archive:
        if member.isfile():
            yield member
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError('damaged or cut off at byte %d' % archive.offset)
    while isinstance(archive.fileobj, gzip.GzipFile) and archive.fileobj.read(1 << 20):
        pass


def open_prepared(
    path: pathlib.Path, fits: Callable[[records.Folder], bool], expected: str
) -> Optional[records.Folder]:
    """Returns the records that an earlier run wrote to `path`, None without any; UserError if they
    do not fit.
    """
    if not path.is_dir() or not any(path.iterdir()):
        return None
    folder = records.Folder.open(path)
    if not fits(folder):
        name = folder.metadata.get('name', 'an unknown data set')
        raise errors.UserError(
            '%s: found %d records of %s, expected %s; remove it or choose another --output'
            % (path, folder.count, name, expected)
        )
    sys.stderr.write('%s: already there (%d records), left as it is\n' % (path, folder.count))
    return folder
