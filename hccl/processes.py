"""Runs the ranks of one machine together, each in a process group with a log; if one fails, all
end.

No process survives the launcher, however it ends: a guard process notices its end and kills the
groups of the ranks, with whatever they have started.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

from common import signals
from common.ascend import error_codes
from common.errors import UserError

GRACE = 60  # seconds that ranks have for their last checkpoint after a signal
STOP = 8  # seconds that the others have once a rank has failed
LAST_LINES = 20
STOPPING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


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


def run(command: Sequence[str], ranks: Sequence[Rank], log_dir: pathlib.Path) -> int:
    """Starts `command` once for each rank, waits for all and returns the exit status: 0, or that of
    the first rank that failed.

    Logs go to log_dir/rank_<n>.log, rank 0's to standard output too. SIGINT, SIGTERM and SIGHUP
    reach every rank, which has GRACE seconds to end; a second signal kills. Once a rank fails the
    others get SIGTERM, and SIGKILL after STOP seconds.
    """
    # Blocked and waited for, so that no handler interrupts anything and none is missed. Those
    # ignored (nohup) stay ignored.
    watched: Set[int] = {signal.SIGCHLD} | {
        number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN
    }
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    guard = _Guard()
    running: List[_Process] = []
    try:
        for rank, cores in zip(ranks, _core_sets(len(ranks))):
            running.append(_Process(command, rank, cores, log_dir, mask))
            guard.add(running[-1].pid)
        return _Supervisor(running).wait(watched)
    finally:
        for process in running:
            process.end()
        guard.dismiss()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _core_sets(count: int) -> List[Optional[Set[int]]]:
    """This machine's cores, divided; with fewer cores than processes all use all."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < count:
        return [None] * count
    limits = [index * len(cores) // count for index in range(count + 1)]
    return [set(cores[first:end]) for first, end in zip(limits, limits[1:])]


class _Guard:
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
                    _signal_group(int(group), signal.SIGKILL)
        finally:
            os._exit(0)

    def add(self, group: int) -> None:
        os.write(self._write, b'%d\n' % group)

    def dismiss(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._write)


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except OSError:  # it has ended
        pass


class _Supervisor:
    """Watches the ranks: after a failure it stops the others, a signal it passes on to all."""

    def __init__(self, processes: List['_Process']):
        self._processes = processes
        self._failed: Optional[_Process] = None
        self._stopped = False  # by a signal
        self._deadline = float('inf')  # when those that still run are killed

    def wait(self, watched: Set[int]) -> int:
        """The exit status of the job, once all ranks have ended. watched: blocked signals."""
        first = self._processes[0]
        with open(str(first.log), 'rb') as log:
            log.seek(first.start)
            while self._running():
                event = signal.sigtimedwait(watched, 0.1)
                _show(log.read())
                if not self._failed and not self._stopped:
                    self._look_for_failure(event)
                if event and event.si_signo in STOPPING and not self._failed:
                    self._forward_signal(signal.Signals(event.si_signo))
                if time.monotonic() >= self._deadline:
                    names = ', '.join(process.rank.name for process in self._running())
                    if names:
                        say('%s did not end in time: killed' % names)
                    self._signal_all(signal.SIGKILL, float('inf'))
            _show(log.read())
        failed = self._failed or next((p for p in self._processes if p.status()), None)
        if failed and not self._stopped:
            _report_failure(failed, is_shown=failed is first)
        return failed.status() if failed else 0

    def _running(self) -> List['_Process']:
        return [process for process in self._processes if process.status() is None]

    def _look_for_failure(self, event) -> None:
        # If several have ended since the last look, the signal names the first.
        first = event.si_pid if event and event.si_signo == signal.SIGCHLD else None
        processes = sorted(self._processes, key=lambda process: process.pid != first)
        self._failed = next((process for process in processes if process.status()), None)
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
            ' kills' % (number.name, GRACE)
        )
        passed = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        self._signal_all(passed, GRACE)

    def _signal_all(self, number: int, seconds: float) -> None:
        """Signals every group that still has its rank, and sets the time for its end."""
        for process in self._running():
            _signal_group(process.pid, number)
        self._deadline = time.monotonic() + seconds


def _report_failure(failed: '_Process', is_shown: bool) -> None:
    """Says which rank failed, and the end of its log unless that `is_shown` already."""
    log = failed.text()
    where = ('. Its log: %s' if is_shown else '. The end of %s:') % failed.log
    report = ['launch: %s failed: %s%s' % (failed, _describe_status(failed.status()), where)]
    if not is_shown:
        lines = log.replace('\r\n', '\n').replace('\r', '\n').rstrip('\n').split('\n')
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
            signals.end_with_parent()  # for the moment before the guard knows this group
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if cores:
                os.sched_setaffinity(0, cores)

        with open(str(self.log), 'ab') as log:
            now = time.strftime('%Y-%m-%d %H:%M:%S')
            log.write(('== %s: %s\n' % (now, ' '.join(command))).encode())
            self.start = log.tell()  # earlier runs stand above
            try:
                self._process = subprocess.Popen(
                    command,
                    env=self._environment(len(cores) if cores else 1),
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

    def _environment(self, threads: int) -> Dict[str, str]:
        result = dict({'OMP_NUM_THREADS': str(threads)}, **os.environ)
        result['PYTHONUNBUFFERED'] = '1'  # or the log lacks the last lines of what was killed
        result.update(self.rank.variables)
        return {name: value for name, value in result.items() if value is not None}

    def __str__(self) -> str:
        return '%s (%s)' % self.rank[:2] if self.rank.device else self.rank.name

    def status(self) -> Optional[int]:
        """None while it runs, then its exit status, 128 + n if signal n has killed it."""
        if self._status is None:
            result = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if result:
                exited = result.si_code == os.CLD_EXITED
                self._status = result.si_status + (0 if exited else 128)
        return self._status

    def end(self) -> None:
        """Kills what is left of the group, the rank's own children too."""
        _signal_group(self.pid, signal.SIGKILL)
        self._process.wait()

    def text(self) -> str:
        """What this run has written to the log, the last MB of it."""
        with open(str(self.log), 'rb') as log:
            log.seek(max(self.start, os.path.getsize(str(self.log)) - (1 << 20)))
            return log.read().decode(errors='replace')
