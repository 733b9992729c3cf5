"""The fault campaign: damages inputs, fills disks and kills processes, by a seed.

    python test/campaign/run.py --seed 1 --cases 100 [--group recipes kills ...] [--case N]

Each case of each group may succeed or be refused with one line. What it must not do is counted:
TRACEBACK; CRASH, the process died; HANG; SILENT, it succeeded with a wrong result; LOST, a file
that was there is gone, or one is half written. Exit status 1 if there is any. A failing case is
printed with the command that repeats it.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import random
import select
import shutil
import subprocess
import sys
import tempfile
import warnings

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

LIMIT = 900  # seconds that a case may take


def groups():
    """{name: setup} of all groups."""
    import disks
    import inputs
    import kills
    import readers

    return {**readers.GROUPS, **inputs.GROUPS, **disks.GROUPS, **kills.GROUPS}


def work(name, seed, numbers, folder):
    """In a process of its own: does the cases, and reports the beginning and end of each."""
    from judge import judge

    report = os.fdopen(os.dup(1), 'w')
    with open(os.devnull, 'w') as nowhere:  # what commands print is not of interest
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    warnings.simplefilter('ignore')
    case = groups()[name](folder.resolve())
    os.chdir(tempfile.mkdtemp(prefix='relative-', dir=str(folder)))  # relative paths lead there
    for number in numbers:
        report.write('%d\n' % number)
        report.flush()
        with tempfile.TemporaryDirectory(prefix='case-') as place:
            choice = random.Random('%d %s %d' % (seed, name, number))
            judged = judge(case, choice, pathlib.Path(place))
        report.write(json.dumps(judged) + '\n')
        report.flush()


def outcomes(name, seed, numbers, folder):
    """Yields (number, outcome, text) of the cases of a group; a worker that dies or hangs is
    replaced.
    """
    left = collections.deque(numbers)
    while left:
        command = [sys.executable, __file__, '--seed', seed, '--group', name, '--sources', folder]
        command += ['--work', *left]
        worker = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, start_new_session=True
        )
        with contextlib.closing(worker.stdout):
            text, current = b'', None
            while left:
                ready, _, _ = select.select([worker.stdout], [], [], LIMIT)
                piece = os.read(worker.stdout.fileno(), 1 << 16) if ready else b''
                text += piece
                *lines, text = text.split(b'\n')
                for line in lines:
                    if line.isdigit():
                        current = int(line)
                    else:
                        yield (left.popleft(), *json.loads(line.decode()))
                        current = None
                if left and not piece:
                    if current is None and ready:
                        raise SystemExit('%s: the worker does not start' % name)
                    what = 'CRASH' if ready else 'HANG'
                    yield left.popleft(), what, 'status %s' % (worker.wait() if ready else 'none')
                    break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, 9)
        worker.wait()


def campaign(names, seed, numbers, folder):
    """Runs the groups; returns {group: Counter of outcomes} and prints what fails."""
    counts = {}
    for name in names:
        counts[name] = collections.Counter()
        for number, outcome, text in outcomes(name, seed, numbers, folder):
            counts[name][outcome] += 1
            if outcome not in ('ok', 'refused'):
                command = 'python test/campaign/run.py --seed %d --group %s --case %d'
                print('%s: %s\n  %s' % (outcome, command % (seed, name, number), text.strip()))
                sys.stdout.flush()
        print('%-16s %s' % (name, dict(counts[name])))
        sys.stdout.flush()
    return counts


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--cases', type=int, default=20, help='of each group')
    parser.add_argument('--group', nargs='+', help='default: all')
    parser.add_argument('--case', type=int, help='this one alone')
    parser.add_argument('--sources', type=pathlib.Path, help='folder of sound inputs to use again')
    parser.add_argument('--work', nargs='+', type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.work:
        return work(flags.group[0], flags.seed, flags.work, flags.sources)
    folder = flags.sources or pathlib.Path(tempfile.mkdtemp(prefix='campaign-'))
    os.environ.update(CUDA_VISIBLE_DEVICES='', XDG_CACHE_HOME=str(folder / 'cache'))
    if not (folder / 'run').is_dir():
        words = [
            sys.executable,
            '-c',
            'import sys, pathlib, sources; sources.make(pathlib.Path(%r))',
        ]
        subprocess.run(words[:2] + [words[2] % str(folder)], check=True, cwd=str(HERE))
    numbers = [flags.case] if flags.case is not None else range(flags.cases)
    counts = campaign(flags.group or list(groups()), flags.seed, numbers, folder)
    if not flags.sources:
        shutil.rmtree(str(folder))
    total = sum(counts.values(), collections.Counter())
    failed = sum(count for outcome, count in total.items() if outcome.isupper())
    print('%d cases, %d failures' % (sum(total.values()), failed))
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
