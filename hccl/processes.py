"""Runs the ranks of one machine together, each in a process group with a log; if one fails, all
end.

No process survives the launcher, however it ends: a guard process notices its end and kills the
groups of the ranks, with whatever they have started.
"""

import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

from common.ascend import error_codes
from common.errors import UserError
from hccl.guard import Guard

GRACE = 60  # seconds that ranks have for their last checkpoint after a signal
STOP = 8  # seconds that the others have once a rank has failed
LAST_LINES = 20
STOPPING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
_PR_SET_PDEATHSIG = 1


class Rank(NamedTuple):
    """One process. name: 'rank 3'; device: 'device 3'; variables: to set; None unsets one."""

    name: str
    device: str
    variables: Dict[str, Optional[str]]


def say(text: str) -> None:
    _show(('launch: %s\n' % text).encode())


def _show(text: bytes) -> None:
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    except OSError:  # nobody reads any more, as after `| head`; the logs hold all of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(
    command: Sequence[str], ranks: Sequence[Rank], log_dir: pathlib.Path, grace: float = GRACE
) -> int:
    """Starts `command` once for each rank, waits for all and returns the exit status: 0, or that of
    the first rank that failed.

    Logs go to log_dir/rank_<n>.log, rank 0's to standard output too. SIGINT, SIGTERM and SIGHUP
    reach every rank, which has `grace` seconds to end; a second signal kills. Once a rank fails the
    others get SIGTERM, and SIGKILL after 8 seconds.
    """
    # Blocked and waited for, so that no handler interrupts anything and none is missed. Those
    # ignored (nohup) stay ignored.
    watched: Set[int] = {signal.SIGCHLD} | {
        number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN
    }
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    guard = Guard()
    running: List[_Process] = []
    try:
        for rank, cores in zip(ranks, _shares(len(ranks))):
            running.append(_Process(command, rank, cores, log_dir, before))
            guard.add(running[-1].pid)
        return _Supervisor(running, grace).wait(watched)
    finally:
        for process in running:
            process.end()
        guard.dismiss()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _shares(count: int) -> List[Optional[Set[int]]]:
    """This machine's cores, divided; with fewer cores than processes all use all."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < count:
        return [None] * count
    return [
        set(cores[index * len(cores) // count : (index + 1) * len(cores) // count])
        for index in range(count)
    ]


def _environment(settings: Dict[str, Optional[str]], cores: Optional[Set[int]]) -> Dict[str, str]:
    result = dict(os.environ)
    result['PYTHONUNBUFFERED'] = '1'  # or the log lacks the last lines of what was killed
    result.setdefault('OMP_NUM_THREADS', str(len(cores) if cores else 1))
    for name, value in settings.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result


class _Supervisor:
    """Watches the ranks: after a failure it stops the others, a signal it passes on to all."""

    def __init__(self, processes: List['_Process'], grace: float):
        self._processes = processes
        self._grace = grace
        self._failed: Optional[_Process] = None
        self._stopped = False  # by a signal
        self._deadline = float('inf')  # when those that still run are killed

    def wait(self, watched: Set[int]) -> int:
        """The exit status of the job, once all ranks have ended. watched: blocked signals."""
        echo = _Echo(self._processes[0])
        while self._running():
            event = signal.sigtimedwait(watched, 0.1)
            echo.forward()
            if not self._failed and not self._stopped:
                self._look_for_failure(event)
            if event and event.si_signo in STOPPING and not self._failed:
                self._forward_signal(signal.Signals(event.si_signo))
            if time.monotonic() >= self._deadline:
                late = ', '.join(process.rank.name for process in self._running())
                if late:
                    say('%s did not end in time: killed' % late)
                self._signal_all(signal.SIGKILL, float('inf'))
        echo.forward()
        failed = self._failed or next((p for p in self._processes if p.status()), None)
        if failed and not self._stopped:
            _report_failure(failed, shown=failed is self._processes[0])
        return failed.status() if failed else 0

    def _running(self) -> List['_Process']:
        return [process for process in self._processes if process.status() is None]

    def _look_for_failure(self, event) -> None:
        # If several have ended since the last look, the signal names the first.
        first = event.si_pid if event and event.si_signo == signal.SIGCHLD else None
        ended = sorted(self._processes, key=lambda process: process.pid != first)
        self._failed = next((process for process in ended if process.status()), None)
        if self._failed and len(self._processes) > 1:
            meaning = _describe_status(self._failed.status())
            say('%s ended with %s: stopping the others' % (self._failed, meaning))
            self._signal_all(signal.SIGTERM, STOP)

    def _forward_signal(self, number: signal.Signals) -> None:
        if self._stopped:  # the second signal
            self._deadline = time.monotonic()
            return
        self._stopped = True
        say(
            '%s: passed on to every rank, which has %d s for its last checkpoint; a second signal'
            ' kills' % (number.name, self._grace)
        )
        passed = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        self._signal_all(passed, self._grace)

    def _signal_all(self, number: int, seconds: float) -> None:
        """Signals every group that still has its rank, and sets the time for its end."""
        for process in self._running():
            process.signal(number)
        self._deadline = time.monotonic() + seconds


def _report_failure(failed: '_Process', shown: bool) -> None:
    """Says which rank failed, and the end of its log unless standard output has `shown` it."""
    log = failed.text()
    meaning = _describe_status(failed.status())
    if shown:
        report = ['launch: %s failed: %s. Its log: %s' % (failed, meaning, failed.log)]
    else:
        lines = log.replace('\r\n', '\n').replace('\r', '\n').rstrip('\n').split('\n')
        report = ['launch: %s failed: %s. The end of %s:' % (failed, meaning, failed.log)]
        report += ['    ' + line for line in lines[-LAST_LINES:]]
    report += ['launch: ' + fix for fix in error_codes.find_fixes(log)]
    sys.stderr.write('\n'.join(report) + '\n')


def _describe_status(status: int) -> str:
    try:
        return 'exit status %d (%s)' % (status, signal.Signals(status - 128).name)
    except ValueError:
        return 'exit status %d' % status


class _Process:
    """A started rank. It is reaped only at the end, so that its group id is not reused before."""

    def __init__(
        self,
        command: Sequence[str],
        rank: Rank,
        cores: Optional[Set[int]],
        log_dir: pathlib.Path,
        mask: Set[int],
    ):
        self.rank = rank
        self.log = log_dir / ('%s.log' % rank.name.replace(' ', '_'))
        self._status: Optional[int] = None

        def prepare():
            _libc.prctl(
                _PR_SET_PDEATHSIG, signal.SIGKILL
            )  # for the moment before the guard knows this group
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if cores:
                os.sched_setaffinity(0, cores)

        with open(str(self.log), 'ab') as log:
            log.write(
                ('== %s: %s\n' % (time.strftime('%Y-%m-%d %H:%M:%S'), ' '.join(command))).encode()
            )
            self.start = log.tell()  # earlier runs stand above
            try:
                self._process = subprocess.Popen(
                    command,
                    env=_environment(rank.variables, cores),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=prepare,
                )
            except OSError as error:
                raise UserError(
                    '%s does not start: %s; write the command after --, for example: -- python'
                    ' run_x.py' % (command[0], error.strerror)
                )
        self.pid = self._process.pid

    def __str__(self) -> str:
        return (
            '%s (%s)' % (self.rank.name, self.rank.device) if self.rank.device else self.rank.name
        )

    def status(self) -> Optional[int]:
        """None while it runs, then its exit status, 128 + n if signal n has killed it."""
        if self._status is None:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended:
                self._status = (
                    ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status
                )
        return self._status

    def signal(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            pass

    def end(self) -> None:
        """Kills what is left of the group, the rank's own children too."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def text(self, size: int = 1 << 20) -> str:
        """The end of what this run has written to the log."""
        with open(str(self.log), 'rb') as log:
            log.seek(max(self.start, os.path.getsize(str(self.log)) - size))
            return log.read().decode(errors='replace')


_libc = ctypes.CDLL(None)


class _Echo:
    """Follows a rank's log to standard output."""

    def __init__(self, process: _Process):
        self._file = open(str(process.log), 'rb')
        self._file.seek(process.start)

    def forward(self) -> None:
        text = self._file.read()
        if text:
            _show(text)
