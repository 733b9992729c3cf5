"""How a process ends upon a signal: at once, but what is half done is removed."""

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
from typing import Iterator, List

SIGNALS = (signal.SIGTERM, signal.SIGINT)
received: List[int] = []  # the signal that ends this command
_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def stop(number, _frame=None) -> None:
    """Ends the command upon a signal, which it handles, by an exception; a second one kills."""
    next_one_kills()
    received.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def next_one_kills() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def end_with_parent() -> None:
    """Has the kernel kill this process once the thread that started it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave() -> None:
    """Ends a process that a signal ends before Python takes itself down: TensorFlow's threads may
    still call Python functions, and then it would crash.
    """
    if received:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(128 + received[0])


atexit.register(_leave)  # before TensorFlow is imported, so that it comes after all of that


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Within it `stop` handles the signals, unless they are handled or ignored already."""
    free = (signal.SIG_DFL, signal.default_int_handler)
    in_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in SIGNALS} if in_main_thread else {}
    handlers = {number: handler for number, handler in handlers.items() if handler in free}
    if handlers:
        received.clear()
    for number in handlers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Puts off the signals that end this process. One that is started within it gets none either
    until it unblocks them: while it imports they would end in tracebacks.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    missed: List[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: missed.append(number)) for number in SIGNALS
    }
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for missed_number in missed:
            os.kill(os.getpid(), missed_number)
