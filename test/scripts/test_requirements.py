"""The pins of requirements*.txt."""

import pathlib
import re

import pkg_resources

ROOT = pathlib.Path(__file__).resolve().parents[2]


def pins():
    lines = [
        line.strip()
        for path in sorted(ROOT.glob('requirements*.txt'))
        for line in path.read_text().splitlines()
    ]
    return [line for line in lines if line and not line.startswith('#')]


def test_every_package_is_pinned_once():
    assert all(re.match(r'[\w.-]+==[\w.]+$', line) for line in pins())
    names = [pkg_resources.Requirement.parse(line).key for line in pins()]
    assert len(names) == len(set(names))


def test_pins_are_complete_and_agree():
    """What a pinned package needs is pinned too, at a version it accepts: they are installed
    without resolving.
    """
    versions = {
        requirement.key: requirement.specs[0][1]
        for requirement in map(pkg_resources.Requirement.parse, pins())
    }
    wrong = []
    for name, version in versions.items():
        found = pkg_resources.working_set.by_key.get(name)
        for needed in found.requires() if found and found.version == version else ():
            if versions.get(needed.key) not in needed:
                wrong.append('%s needs %s, pinned is %s' % (name, needed, versions.get(needed.key)))
    assert not wrong
