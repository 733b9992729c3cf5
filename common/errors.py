"""Mistakes that a user can fix: one clear line, exit status 2, no traceback."""

import argparse
import difflib
import functools
import sys
from typing import Iterable, Union


class UserError(Exception):
    """A mistake in a file, key or flag.

    The message names it, what was found, what is legal and how to fix it.
    """


def suggest(name: str, legal: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the legal name nearest to `name`, or "" if none is near."""
    near = difflib.get_close_matches(str(name), [str(item) for item in legal], n=1, cutoff=0.6)
    return "; did you mean '%s'?" % near[0] if near else ''


class Parser(argparse.ArgumentParser):
    """Flags of a command, none abbreviated. A mistake is a UserError that suggests the nearest."""

    def __init__(self, **options):
        options.setdefault('formatter_class', argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args=None, namespace=None):
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [flag for flag in self._option_string_actions if flag.startswith('--')]
            near = suggest(unknown[0].split('=')[0], flags)
            self.error('%s is unknown%s' % (' '.join(unknown), near))
        return found

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            legal = ', '.join(str(choice) for choice in action.choices)
            message = '%s is not legal; legal: %s%s' % (
                value,
                legal,
                suggest(value, action.choices),
            )
            raise argparse.ArgumentError(action, message)

    def error(self, message):
        raise UserError('%s; --help lists the flags' % message.replace('argument ', '', 1))


def some(names: Iterable[Union[str, int]]) -> str:
    """The first five names or numbers in order, and how many more there are; "nothing" if there are
    none.
    """
    names = [str(name) for name in sorted(names)]
    return (
        ', '.join(names[:5]) + (' and %d more' % (len(names) - 5) if len(names) > 5 else '')
        or 'nothing'
    )


def entry_point(main):
    """Wraps a command's main(): prints a UserError or an error of the operating system as one line
    on stderr and exits with status 2; Ctrl-C exits with 130.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as error:
            sys.stderr.write('error: %s\n' % error)
            sys.exit(2)
        except BrokenPipeError:  # whoever read the output has left, as `head` does
            sys.exit(1)
        except OSError as error:  # a full disk, a read-only folder, a name that is taken
            where = '%s: ' % error.filename if error.filename else ''
            sys.stderr.write('error: %s%s\n' % (where, error.strerror or error))
            sys.exit(2)
        except KeyboardInterrupt:
            sys.stderr.write('interrupted\n')
            sys.exit(130)

    return wrapped
