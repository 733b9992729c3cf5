"""What a case of the campaign may do: succeed, or refuse with one line. All else is a failure."""

import contextlib
import hashlib
import io
import pathlib
import traceback

from common.data import records
from common.errors import UserError, explanation

GOOD = ('ok', 'refused')


class Silent(Exception):
    """The case succeeded with a wrong result."""


class Hang(Exception):
    """It did not end in time, or left processes behind."""


class Lost(Exception):
    """A file that was there is gone or changed."""


def judge(case, *args):
    """Runs case(*args); returns (outcome, text). Others: TRACEBACK, SILENT, LOST, HANG."""
    try:
        case(*args)
    except Silent as error:
        return 'SILENT', str(error)
    except Lost as error:
        return 'LOST', str(error)
    except Hang as error:
        return 'HANG', str(error)
    except Exception as error:
        if explanation(error):
            return 'refused', explanation(error)
        text = traceback.format_exc()
        return 'TRACEBACK', text if len(text) < 3000 else text[:500] + ' ...\n' + text[-2000:]
    return 'ok', ''


def call(main, words):
    """Runs a command in this process. UserError for its `error: ` line, if that is all it says."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code
            if isinstance(status, str):  # what the interpreter would print
                err.write(status + '\n')
                status = 1
    check_end(status or 0, err.getvalue())
    return out.getvalue()


def check_end(status, error):
    """UserError for a command that ended with one line and status 1 or 2; AssertionError for one
    that ended in another way than that or successfully.
    """
    lines = [line for line in error.splitlines() if line.startswith('error: ')]
    assert 'Traceback (most recent call last)' not in error, error
    if status == 0:
        assert not lines, error
        return
    assert status in (1, 2) and len(lines) == 1, 'status %s: %s' % (status, error)
    assert error.rstrip().splitlines()[-1] == lines[0], error
    raise UserError(lines[0][len('error: ') :])


def snapshot(folder):
    """{relative path: digest} of the files in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(pathlib.Path(folder).rglob('*'))
        if path.is_file() and not path.is_symlink()
    }


def require_kept(folder, before, but=()):
    """Lost if a file of `before`, a snapshot, is not there any more as it was.

    but: beginnings of the paths that the command may replace.
    """
    after = snapshot(folder)
    lost = [
        name
        for name, digest in before.items()
        if after.get(name) != digest and not name.startswith(tuple(but))
    ]
    if lost:
        raise Lost('gone or changed: %s' % ', '.join(lost[:5]))


@contextlib.contextmanager
def whole_splits(output):
    """After a refusal, Lost unless each split in `output` is whole."""
    try:
        yield
    except UserError:
        for path in pathlib.Path(output).glob('[!.]*'):
            try:
                records.Folder.open(path)
            except UserError as error:
                raise Lost('half written: %s' % error)
        raise
