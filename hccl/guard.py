"""Nothing that the ranks have started survives the launcher."""

import os
import signal


class Guard:
    """A process that kills the groups once the launcher is gone, which a killed launcher cannot."""

    def __init__(self):
        read, self._write = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(read)
            return
        try:
            os.setsid()
            os.close(self._write)
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            with os.fdopen(read) as groups:  # ends when the launcher has ended
                for group in groups.read().split():
                    try:
                        os.killpg(int(group), signal.SIGKILL)
                    except OSError:
                        pass
        finally:
            os._exit(0)

    def add(self, group: int) -> None:
        os.write(self._write, b'%d\n' % group)

    def dismiss(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._write)
