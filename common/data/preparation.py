"""What the commands that prepare records share."""

import argparse
import pathlib
import tarfile
from typing import Iterator, Optional

from common import errors
from common.data import records


class Parser(errors.Parser):
    """The flags of such a command; a mistake is a UserError. doc: what --help says first."""

    def __init__(self, prog: str, doc: str, output: str):
        super().__init__(prog=prog, description=doc)
        self.add_argument(
            '--output', required=True, type=pathlib.Path, help='folder to make %s in' % output
        )


def at_least(least: int):
    """Returns the type of a flag that is a whole number, `least` or more."""

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(
                'found %s, give a whole number, %d or more' % (text, least)
            )
        return value

    return whole_number


def members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yields the files in a tar archive. ReadError if it does not end with the empty block that
    ends every archive: tarfile takes a damaged header for the end.
    """
    for member in archive:
        if member.isfile():
            yield member
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError('damaged or cut off at byte %d' % archive.offset)


def earlier(path: pathlib.Path) -> Optional[records.Folder]:
    """Returns the records that an earlier run wrote to `path`, None if there is nothing."""
    return records.Folder.open(path) if path.is_dir() and any(path.iterdir()) else None
