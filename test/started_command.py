"""A command as a process of its own, for tests."""

import os
import signal
import subprocess
import tempfile
import time


class Command:
    """A started process in a session of its own; what it prints goes to files, so that it never
    waits for a reader.
    """

    def __init__(self, words, cwd):
        self._out, self._err = tempfile.TemporaryFile('w+'), tempfile.TemporaryFile('w+')
        self._process = subprocess.Popen(
            [str(word) for word in words],
            cwd=cwd and str(cwd),
            stdout=self._out,
            stderr=self._err,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def wait_for(self, condition, seconds=60):
        """Waits until condition() is true while the process runs."""
        end = time.time() + seconds
        while not condition():
            assert self._process.poll() is None, 'ended too early, status %s: %s' % (
                self._process.returncode,
                self._text(),
            )
            assert time.time() < end, 'still waiting: %s' % (self._text(),)
            time.sleep(0.02)

    def send(self, number):
        self._process.send_signal(number)

    def finish(self, seconds=120):
        """(exit status, standard output, standard error); the status of a killed process is minus
        the signal.
        """
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.abandon()
            raise AssertionError('did not end: %s' % (self._text(),))
        return (self._process.returncode,) + self._text()

    def abandon(self):
        """Kills what is left of the process and its children."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def _text(self):
        texts = []
        for file in (self._out, self._err):
            file.seek(0)
            texts.append(file.read())
        return tuple(texts)
