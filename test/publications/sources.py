"""Takes values out of lines of the publications' own code; see make_ledger.py."""

import ast
import re
import subprocess

# Repositories that several models have their values from.
MINDSPORE = 'mindspore-ai/models@eab643f51336dbf7d711f02d27e6516e5affee59'
PORT = 'Ascend/ModelZoo-TensorFlow@a2c3332a6cea24b56ab936a746b994c89c8fc7f8'


class Source:
    """One file of a repository at a commit."""

    clones = None

    def __init__(self, repository, path):  # repository: OWNER/NAME@COMMIT
        self.repository, self.path = repository, path

    def text(self):
        name, commit = self.repository.split('@')
        clone = str(self.clones / name.replace('/', '+'))
        command = ['git', '-C', clone, 'show', '%s:%s' % (commit, self.path)]
        return subprocess.check_output(command).decode()

    def quote(self, pattern):
        """(the match of a pattern, 'repository:path:line number: the line') of the first match."""
        text = self.text()
        match = re.search(pattern, text, re.M)
        assert match, '%s has no %s' % (self.path, pattern)
        number = text.count('\n', 0, match.start()) + 1
        line = text.splitlines()[number - 1].strip()
        return match, '%s:%s:%d: %s' % (self.repository, self.path, number, line)


def number(text):
    """'0.9' -> 0.9, 'True' or 'true' -> True."""
    return ast.literal_eval(text.capitalize() if text.lower() in ('true', 'false') else text)


def numbers(text):
    """'{60, 120}' -> [60, 120]."""
    return [number(found) for found in re.findall(r'[\d.]+(?:e-?\d+)?', text)]


def value(key, source, pattern, convert=number):
    """One entry: `convert` makes it from the groups of the pattern, or is itself what it says."""
    match, quote = source.quote(pattern)
    return {key: {'value': convert(*match.groups()) if callable(convert) else convert,
                  'source': quote}}  # fmt: skip


def stated(key, what, where):
    """An entry from a publication that has no code."""
    return {key: {'value': what, 'source': where}}


def merged(*entries):
    return {key: entry for single in entries for key, entry in single.items()}
