"""A configuration of a model that does not exist."""

import dataclasses

import pytest
from typing_extensions import Literal

from common.configuration import config
from common.configuration.fields import PositiveInt, option
from common.configuration.settings import Config
from common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Example(Config):
    model = 'example'
    aliases = {'depths': 'depth', 'epoch': 'epochs'}
    depth: PositiveInt = option(28, 'layers')
    variant: Literal['paper', 'port'] = option('paper', 'graph')


def parse(*argv, of=Example):
    """The configuration of the words of a command line."""
    return config.parse(of, [str(word) for word in argv])


def refused(message, *argv):
    """Fails unless the error of these words is one line that matches the message."""
    with pytest.raises(UserError, match=message) as error:
        parse(*argv)
    assert '\n' not in str(error.value)
