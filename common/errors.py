"""Mistakes that a user can fix: one clear line, exit status 2, no traceback."""

import argparse
import contextlib
import difflib
import errno
import functools
import math
import os
import re
import sys
from typing import Callable, Iterable, List, Optional, Union

from common import signals


class UserError(Exception):
    """A mistake in a file, key or flag.

    The message names it, what was found, what is legal and how to fix it.
    """


def suggest(name: str, legal: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the legal name nearest to `name`, or "" if none is near."""
    matches = difflib.get_close_matches(str(name), [str(item) for item in legal], n=1, cutoff=0.6)
    return "; did you mean '%s'?" % matches[0] if matches else ''


class Parser(argparse.ArgumentParser):
    """Flags of a command, none abbreviated. A mistake is a UserError that suggests the nearest."""

    def __init__(self, **options):
        options.setdefault('formatter_class', argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    @property
    def flags(self) -> List[str]:
        """Names of the flags, such as '--output'."""
        return [flag for flag in self._option_string_actions if flag.startswith('--')]

    def parse_args(self, args=None, namespace=None):
        args, unknown = self.parse_known_args(args, namespace)
        if unknown:
            suggestion = suggest(unknown[0].split('=')[0], self.flags)
            self.error('%s is unknown%s' % (' '.join(unknown), suggestion))
        return args

    def parse_known_args(self, args=None, namespace=None):
        self._words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            legal = ', '.join(str(choice) for choice in action.choices)
            message = '%s is not legal; legal: %s%s' % (
                value,
                legal,
                suggest(value, action.choices),
            )
            raise argparse.ArgumentError(action, message)

    def error(self, message):
        if 'required' in message:  # one of the flags may be misspelt
            given = {str(word).split('=')[0] for word in self._words}
            for flag in re.findall(r'--\w+', message):
                nearest = difflib.get_close_matches(flag, given - set(self.flags), n=1)
                message += ''.join('; found ' + word for word in nearest)
        raise UserError('%s; --help lists the flags' % message.replace('argument ', '', 1))


def at_least(least: int, at_most: float = math.inf) -> Callable[[str], int]:
    """Returns the type of a flag, a whole number of [least, at_most]."""
    legal = '%d or more' % least if at_most == math.inf else '%d to %d' % (least, at_most)

    def whole_number(text: str) -> int:
        with contextlib.suppress(ValueError):
            if least <= int(text) <= at_most:
                return int(text)
        raise argparse.ArgumentTypeError('found %s, give a whole number, %s' % (text, legal))

    return whole_number


def first_few(names: Iterable[Union[str, int]]) -> str:
    """The first five names or numbers in order, and how many more there are; "nothing" if there are
    none.
    """
    items = [str(name) for name in sorted(names)]
    remainder = ' and %d more' % (len(items) - 5) if len(items) > 5 else ''
    return ', '.join(items[:5]) + remainder or 'nothing'


def warn(text: str) -> None:
    """Prints a warning."""
    sys.stderr.write('warning: %s\n' % text)


def entry_point(main):
    """Wraps a command's main(): prints what a user can mend as one line on stderr and exits with
    status 2; Ctrl-C exits with 130, SIGTERM with 143, and what was half done is removed.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            with signals.handled():
                return main(*args, **kwargs)
        except BrokenPipeError:  # whoever read the output has left, as `head` does
            sys.exit(1)
        except KeyboardInterrupt:
            sys.stderr.write('interrupted\n')
            sys.exit(130)
        except Exception as error:
            if signals.received:  # C code makes another error of the one that ends the process
                sys.exit(128 + signals.received[0])
            text = explanation(error)
            if text is None:
                raise
            sys.stderr.write('error: %s\n' % re.sub(r'[\x00-\x1f\x7f]+', ' ', text))
            sys.exit(2)

    return wrapped


def explanation(error: Exception) -> Optional[str]:
    """Returns what a UserError says, or an error of the machine, such as a full disk, a read-only
    folder or memory that is used up, from Python or TensorFlow; None for a fault of the program.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return 'out of memory: %s' % (error or 'give a smaller --batch_size')
    if isinstance(error, OSError):
        where = '%s: ' % error.filename if error.filename else ''
        return where + (error.strerror or str(error))
    if hasattr(error, 'error_code'):
        message = str(getattr(error, 'message', ''))
        text = message.split('\n\t [[')[0]  # without the operation and its traceback
        if text.rpartition('; ')[2] in _OF_THE_SYSTEM:
            return text
        if type(error).__name__ in _SYSTEM_ERRORS:
            return text.splitlines()[0]
    return None


# What a file operation of TensorFlow ends its message with, whatever the type of the error: that of
# a name that is too long is InvalidArgumentError, of a file that is too large OutOfRangeError.
_OF_THE_SYSTEM = {os.strerror(number) for number in errno.errorcode}
# TensorFlow's, by name: to import it takes seconds.
_SYSTEM_ERRORS = {'DataLossError', 'FailedPreconditionError', 'NotFoundError'}
_SYSTEM_ERRORS |= {'PermissionDeniedError', 'ResourceExhaustedError', 'UnknownError'}
