"""Mistakes that a user can fix: one clear line, exit status 2, no traceback."""

import argparse
import atexit
import contextlib
import difflib
import errno
import functools
import os
import re
import signal
import sys
import threading
from typing import Callable, Iterable, Iterator, List, Optional, Union


class UserError(Exception):
    """A mistake in a file, key or flag.

    The message names it, what was found, what is legal and how to fix it.
    """


def suggest(name: str, legal: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the legal name nearest to `name`, or "" if none is near."""
    near = difflib.get_close_matches(str(name), [str(item) for item in legal], n=1, cutoff=0.6)
    return "; did you mean '%s'?" % near[0] if near else ''


class Parser(argparse.ArgumentParser):
    """Flags of a command, none abbreviated. A mistake is a UserError that suggests the nearest."""

    def __init__(self, **options):
        options.setdefault('formatter_class', argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args=None, namespace=None):
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [flag for flag in self._option_string_actions if flag.startswith('--')]
            near = suggest(unknown[0].split('=')[0], flags)
            self.error('%s is unknown%s' % (' '.join(unknown), near))
        return found

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
        raise UserError('%s; --help lists the flags' % message.replace('argument ', '', 1))


def at_least(least: int) -> Callable[[str], int]:
    """Returns the type of a flag, a whole number of `least` or more."""

    def whole_number(text: str) -> int:
        with contextlib.suppress(ValueError):
            if int(text) >= least:
                return int(text)
        raise argparse.ArgumentTypeError(
            'found %s, give a whole number, %d or more' % (text, least)
        )

    return whole_number


def some(names: Iterable[Union[str, int]]) -> str:
    """The first five names or numbers in order, and how many more there are; "nothing" if there are
    none.
    """
    words = [str(name) for name in sorted(names)]
    more = ' and %d more' % (len(words) - 5) if len(words) > 5 else ''
    return ', '.join(words[:5]) + more or 'nothing'


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
            with _stoppable():
                return main(*args, **kwargs)
        except BrokenPipeError:  # whoever read the output has left, as `head` does
            sys.exit(1)
        except KeyboardInterrupt:
            sys.stderr.write('interrupted\n')
            sys.exit(130)
        except Exception as error:
            if _received:  # C code makes another error of the one that ends the process
                sys.exit(128 + _received[0])
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


SIGNALS = (signal.SIGTERM, signal.SIGINT)
_received: List[int] = []  # the signal that ends this command


def stop(number, _frame=None) -> None:
    """Ends the command upon a signal, which it handles, by an exception; a second one kills."""
    for second in SIGNALS:
        signal.signal(second, signal.SIG_DFL)
    _received.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _leave() -> None:
    """Ends a process that a signal ends before Python takes itself down: TensorFlow's threads may
    still call Python functions, and then it would crash.
    """
    if _received:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + _received[0])


atexit.register(_leave)  # before TensorFlow is imported, so that it comes after all of that


@contextlib.contextmanager
def signals_later() -> Iterator[None]:
    """Puts off the signals that end this process. One that is started within it gets none either
    until it unblocks them: while it imports they would end in tracebacks.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: List[int] = []
    later = lambda number, _: received.append(number)  # noqa: E731
    handlers = {number: signal.signal(number, later) for number in SIGNALS}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for missed in received:
            os.kill(os.getpid(), missed)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Within it `stop` handles the signals, unless they are handled or ignored already."""
    free = (signal.SIG_DFL, signal.default_int_handler)
    here = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS} if here else {}
    handlers = {number: handler for number, handler in handlers.items() if handler in free}
    if handlers:
        _received.clear()
    for number in handlers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
