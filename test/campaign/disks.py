"""Groups of file-system faults: outputs that cannot be written, inputs that are something else, and
a disk that is full.
"""

import contextlib
import os
import resource

from command_lines import commands
from damage import odd_place
from judge import call, require_kept, snapshot


def places(sources):
    """Every command, whose output or an input is a place where it cannot be."""
    found = commands(sources)

    def case(random, place):
        main, words = random.choice([pair for pair in found if len(pair[1]) > 1])
        words = [str(word) for word in words]
        odd, _ = odd_place(place / 'odd', random)
        paths = [index for index, word in enumerate(words) if '/' in word]
        outputs = [index for index in paths if words[index].startswith('PLACE')]
        index = random.choice(outputs if outputs and random.random() < 0.7 else paths)
        end = os.path.basename(words[index])
        words[index] = str(odd) + ('/' + end if random.random() < 0.5 else '')
        before = {**_prefixed(sources), **_prefixed(place)}
        try:
            call(main, [word.replace('PLACE', str(place)) for word in words])
        finally:
            for folder in (sources, place):
                kept = {k[1]: v for k, v in before.items() if k[0] == folder}
                require_kept(folder, kept, ['odd/file'])  # whoever names a file has it replaced

    return case


def _prefixed(folder):
    return {(folder, name): digest for name, digest in snapshot(folder).items()}


@contextlib.contextmanager
def file_size(limit):
    """Within it no file of this process grows beyond `limit` bytes, as on a full disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def full_disks(sources):
    """Every command that writes, at a limit to the size of its files; then once more without it."""
    found = [pair for pair in commands(sources) if any('PLACE' in str(w) for w in pair[1])]

    def case(random, place):
        main, words = random.choice(found)
        words = [str(word).replace('PLACE', str(place)) for word in words]
        limit = random.choice([0, 1, 100, 1000, 5000, 20000, 50000, 150000])
        before = snapshot(sources)
        try:
            with file_size(limit):
                call(main, words)
        finally:
            require_kept(sources, before)
            call(main, words)  # with room, the same command works on what is left

    return case


GROUPS = {'places': places, 'full_disks': full_disks}
