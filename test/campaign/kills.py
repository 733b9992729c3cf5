"""Groups of kills: a command gets signals at random moments, is started again until it ends, and
must then have made what an uninterrupted one made.
"""

import json
import os
import pathlib
import shutil
import signal
import tempfile
import time

import numpy as np
import psutil
from damage import fresh
from judge import Hang, Lost, Silent, check_end, require_kept, snapshot
from sources import TRAINING, words

from common.errors import UserError

PATIENCE = 60  # seconds; a process that was asked to end, and one that nobody disturbs, x 5
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# What differs between two runs that are the same: when and how fast.
TIMES = ('time', 'seconds', 'images_per_second', 'minutes')


class Child:
    """A command in a process of its own, forked from this one, which saves the imports."""

    def __init__(self, main, flags, place):
        self.error = place / 'stderr'
        scratch = place / 'scratch'
        scratch.mkdir(parents=True, exist_ok=True)
        self.pid = os.fork()
        if not self.pid:
            os.setsid()
            status = 0
            try:
                for number in (1, 2):
                    os.dup2(os.open(str(self.error), os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
                os.environ['TMPDIR'] = str(scratch)
                main([str(word) for word in flags])
            except SystemExit as stop:
                status = stop.code if isinstance(stop.code, int) else bool(stop.code)
                os._exit(status)  # before what the signal found half made is freed
            except BaseException:
                import traceback

                traceback.print_exc()
                status = 70
            finally:
                os._exit(status)

    def wait(self, seconds):
        """The exit status, minus the signal of one that was killed; None after so many seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            time.sleep(0.01)
        return None

    def finish(self, seconds):
        status = self.wait(seconds)
        if status is None:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise Hang('no end after %d s: %s' % (seconds, self.error.read_text()[-500:]))
        end = time.monotonic() + 10
        while self._rest() and time.monotonic() < end:
            time.sleep(0.05)
        if self._rest():
            raise Hang('it left processes: %s' % self._rest())
        return status

    def _rest(self):
        return [
            process.pid
            for process in psutil.process_iter()
            if _session(process.pid) == self.pid and process.status() != psutil.STATUS_ZOMBIE
        ]


def _session(pid):
    try:
        return os.getsid(pid)
    except OSError:
        return None


def undisturbed(main, flags, place):
    """Runs a command to its end; returns how long it took."""
    began = time.monotonic()
    child = Child(main, flags, place)
    check_end(child.finish(5 * PATIENCE), child.error.read_text())
    return time.monotonic() - began


def disturbed(main, flags, place, random, duration):
    """Runs a command with up to three kills, then to its end."""
    for _ in range(random.randint(1, 3)):
        child, number = Child(main, flags, place), random.choice(SIGNALS)
        status = child.wait(random.uniform(0, duration))
        if status is not None:
            check_end(status, child.error.read_text())
            return
        os.kill(child.pid, number)
        status, text = child.finish(PATIENCE), child.error.read_text()
        if 'Traceback' in text or status not in (0, -number, 128 + number):
            raise AssertionError('signal %d, status %s: %s' % (number, status, text))
    undisturbed(main, flags, place)


def group(make):
    """The group of a command. make(sources, place) -> (main, flags, result): result() is what must
    be equal; it may raise Silent or Lost itself.
    """

    def setup(sources):
        import lenet_tf.task  # noqa: F401, before any signal

        home = pathlib.Path(tempfile.mkdtemp(prefix='undisturbed-'))
        main, flags, result = make(sources, home)
        duration = undisturbed(main, flags, home)
        expected = result()
        shutil.rmtree(str(home))

        def case(random, place):
            before = snapshot(sources)
            main, flags, result = make(sources, place)
            try:
                disturbed(main, flags, place, random, duration)
            except UserError as error:
                raise Lost('it does not go on: %s' % error)
            found = result()
            for name in expected:
                if found.get(name) != expected[name]:
                    raise Silent('%s: %s, expected %s' % (name, found.get(name), expected[name]))
            left = [path for path in place.rglob('*') if _is_leftover(path)]
            if left:
                raise Lost('left behind: %s' % ', '.join(map(str, left)))
            require_kept(sources, before)

        return case

    GROUPS['kill_' + make.__name__] = setup
    return make


def _is_leftover(path):
    hidden = path.name.startswith('.') or 'tempstate' in path.name or '.tmp' in path.name
    return hidden or path.parent.name == 'scratch' or path.name == 'run.lock'


GROUPS = {}


def _rows(run):
    rows = map(json.loads, (run / 'metrics.jsonl').read_text().splitlines())
    return [
        {key: value for key, value in row.items() if key not in TIMES + ('skipped_steps',)}
        for row in rows
        if 'step' in row and not row.get('superseded')
    ]


def _weights(prefix):
    from common.checkpoints.checkpoint import Checkpoint

    reader = Checkpoint(prefix)
    return {name: np.asarray(reader.read(name)).tobytes() for name in reader.shapes}


def _json(path):
    content = json.loads(path.read_text())
    return {key: value for key, value in content.items() if key not in TIMES + ('checkpoint',)}


def _lenet(argv):
    from lenet_tf.task import TASK

    from common import run

    run.main(TASK, argv)


@group
def train(sources, place):
    output = place / 'run'

    def result():
        best = sorted(path.name for path in (output / 'best').glob('*.index'))
        return {
            'final': _weights(output / 'lenet.ckpt'),
            'last': _weights(output / 'model.ckpt-12'),
            'rows': sorted(_rows(output), key=lambda row: (row['step'], row['kind'])),
            'best': (best, _json(output / 'best' / 'best.json')),
            'eval': _json(output / 'eval.json'),
            'report': (output / 'report.html').is_file() and (output / 'report.md').is_file(),
        }

    data = sources / 'records' / 'lenet'
    return _lenet, words(data_path=data, output_path=output, **TRAINING), result


@group
def evaluate(sources, place):
    run = place / 'run' if (place / 'run').exists() else fresh(sources / 'run', place / 'run')
    before = snapshot(run)
    flags = words(data_path=sources / 'records' / 'lenet', model_path=run / 'lenet.ckpt')

    def result():
        require_kept(run, before, ['eval.json', 'confusion.npy'])
        return {'eval': _json(run / 'eval.json')}

    return _lenet, flags, result


@group
def prepare_cifar(sources, place):
    from wideresnet_tf import prepare_cifar as command

    flags = words(dataset='cifar10', source=sources / 'archives', output=place / 'out', shards=2)
    return command.main, [*flags, '--no_verify'], lambda: snapshot(place / 'out')


@group
def prepare_imagenet(sources, place):
    from xception_tf import prepare_imagenet as command

    flags = words(source=sources / 'archives', output=place / 'out', shards=3)
    return command.main, [*flags, '--no_verify'], lambda: snapshot(place / 'out')


@group
def prepare_cityscapes(sources, place):
    from resnest_tf import prepare_cityscapes as command

    flags = words(source=sources / 'archives', output=place / 'out')
    return command.main, [*flags, '--allow_partial'], lambda: snapshot(place / 'out')


def _offline(sources, place, backend):
    from offline_inference import run as command

    output = place / 'out'
    known = dict(model_path=sources / 'run' / 'lenet.ckpt', data_path=sources / 'records' / 'lenet')
    flags = words(model='lenet', output=output, backend=backend, batch_size=8, **known)

    def result():
        (entry,) = json.loads((output / 'offline.json').read_text())['results'].values()
        keys = ('images', 'online', 'offline', 'predictions', 'equal_predictions')
        return {key: entry[key] for key in keys}

    return command.main, flags, result


@group
def offline_onnx(sources, place):
    return _offline(sources, place, 'onnx')


@group
def offline_msame(sources, place):
    from sources import use_stand_ins

    use_stand_ins()
    return _offline(sources, place, 'msame')


@group
def average(sources, place):
    from common import checkpoint as command

    output = pathlib.Path(place / 'average.ckpt')
    flags = ['average', sources / 'run', *words(last=2, output=output)]
    return command.main, flags, lambda: _weights(output)
