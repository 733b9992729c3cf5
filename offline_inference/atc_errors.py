"""What atc's error codes mean and how to fix them."""

import pathlib
import re

from common.ascend import error_codes
from common.errors import UserError


def refuse(code: str, text: str) -> UserError:
    """An error of atc with its fix."""
    fix = error_codes.ATC.get(code)
    return UserError('%s: %s%s' % (code, text.rstrip('. '), '; ' + fix if fix else ''))


def failure(text: str, status: int, log: pathlib.Path) -> UserError:
    """What atc's output says of its failure, with the fix for its code."""
    # CANN 8 puts [PID: n] and the time between the code and the sentence.
    for match in re.finditer(
        r'^\s*(E[A-Z]?\d{4,5})\s*:\s*(?:\[PID: \d+\]\s*\S+\s*)?(.*)$', text, re.M
    ):
        if match.group(1) in error_codes.ATC:
            return UserError('atc: %s (all of its output: %s)' % (refuse(*match.groups()), log))
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r'error|E[A-Z]?\d{4,5}', line, re.I)] or lines
    return UserError(
        'atc failed with status %d: %s; see %s'
        % (status, (errors or ['it printed nothing'])[0].strip(), log)
    )
