"""msame's command line, read as getopt_long and the tool read it: many mistakes end with status 0."""

import json
import os
import re
import sys
from typing import List

LONG = (
    'model',
    'input',
    'output',
    'outfmt',
    'help',
    'dump',
    'profiler',
    'loop',
    'dymBatch',
    'dymDims',
    'dymHW',
    'dymShape',
    'device',
    'outputSize',
    'debug',
)
_HELP = """
Usage:
  msame --model net.om --input a.bin[,b.bin] --output folder --outfmt BIN --loop 1

arguments explain:
  --model       offline model, .om
  --input       input files or folders, separated by ','; zeros if left out
  --output      folder of the results
  --outfmt      TXT or BIN
  --loop        1 to 100
  --dump        true or false
  --profiler    true or false
  --device      0 to 255
  --debug       true or false
  --outputSize  bytes of each output, such as "10000,10000"
  --dymBatch    batch size of a model with dynamic batch sizes
  --dymHW       height and width, such as "300,500"
  --dymDims     such as "data:1,600;img:1,600"
  --dymShape    such as "data:1,600;img:1,600"
"""


class Exit(Exception):
    """The tool ends here with this status."""

    def __init__(self, status: int):
        super().__init__(status)
        self.status = status


def say(kind: str, text: str, *values) -> None:
    """One log line: everything goes to standard output, errors too."""
    print('[%s] %s' % (kind, text % values if values else text), flush=True)


def _leave(*errors: str, status: int = 0, show_help: bool = False):
    for error in errors:
        say('ERROR', error)
    if show_help:
        print(_HELP, flush=True)
    raise Exit(status)


def number(text: str) -> int:
    """The digits at the beginning of `text`, 0 if there are none: '1O' is 1."""
    return int(re.match(r'\d*', text).group() or 0)


class Options:
    """The flags' values; None for what was not given."""

    def __init__(self, words: List[str]):
        self.model = self.output = self.outfmt = self.dump = self.profiler = self.debug = None
        self.dymDims = self.dymHW = self.dymShape = self.dymBatch = None
        self.inputs, self.output_sizes, self.loop, self.device = [], [], 1, 0
        words = list(words)
        given = False
        while words:
            word = words.pop(0)
            if word == '--':
                break
            if word.startswith('--'):
                name, equals, value = word[2:].partition('=')
                name = self._name(name)
                if name == 'help':
                    _leave(show_help=True)
                if not equals and not words:
                    self._unknown("option '--%s' requires an argument" % name)
                self._set(name, value if equals else words.pop(0))
                given = given or name not in ('loop', 'device')
            elif word.startswith('-') and word != '-':
                self._unknown("invalid option -- '%s'" % word[1])
        if not given:
            _leave('Invalid params', 'Execute sample failed', status=1, show_help=True)
        self._combine()

    @staticmethod
    def _unknown(text):
        sys.stderr.write('msame: %s\n' % text)
        _leave('unknown paramenter', 'Execute sample failed', show_help=True)

    def _name(self, name: str) -> str:
        """The flag that `name` is or, unambiguously, begins."""
        found = [name] if name in LONG else [flag for flag in LONG if flag.startswith(name)]
        if len(found) != 1:
            self._unknown(
                ("option '--%s' is ambiguous" if found else "unrecognized option '--%s'") % name
            )
        return found[0]

    def _set(self, name: str, value: str) -> None:
        if name == 'model' and '.om' not in value:
            _leave('input model file type is not .om , please check your model type!')
        if name == 'loop':
            self.loop = number(value)
            if not 1 <= self.loop <= 100:
                _leave('loop must in 1 to 100')
        elif name == 'device':
            self.device = number(value)
            if self.device > 255:
                _leave('device id must in 0 to 255')
        elif name == 'dymBatch':
            self.dymBatch = number(value)
            if self.dymBatch > 2048:
                _leave('dymBatch must in 1 to 2048')
        elif name == 'input':
            self.inputs = [
                item.strip() for item in (value[:-1] if value.endswith(',') else value).split(',')
            ]
        elif name == 'outputSize':
            self.output_sizes = [number(item) for item in value.split(',')]
        else:
            setattr(self, name, value)

    def _combine(self) -> None:
        """What does not go together, and acl.json, the file in the working folder that configures
        the device.
        """
        if self.dump == 'true' and self.profiler == 'true':
            _leave('dump and profiler can not both be true', status=1)
        if (
            sum(
                value is not None
                for value in (self.dymBatch, self.dymHW, self.dymDims, self.dymShape)
            )
            > 1
        ):
            _leave('dymBatch dymDims dymHW dymShape cannot be set at the same time', status=1)
        if os.path.exists('acl.json'):
            sys.stderr.write('[WARN] ./acl.json exists and is used\n')
        kind = 'profiler' if self.profiler == 'true' else 'dump' if self.dump == 'true' else None
        if kind:
            folder = '%s/%s' % (self.output or '', kind)
            with open('acl.json', 'w') as file:
                json.dump(
                    (
                        {'profiler': {'switch': 'on', 'output': folder}}
                        if kind == 'profiler'
                        else {'dump': {'dump_path': folder}}
                    ),
                    file,
                )
            for path in (self.output or '', folder):
                make_folder(path)

    @property
    def writes_acl_json(self) -> bool:
        """True if this run made ./acl.json and removes it in the end."""
        return 'true' in (self.profiler, self.dump)


def make_folder(path: str) -> None:
    """mkdir of one level; what fails shows later."""
    try:
        os.mkdir(path, 0o775)
    except OSError:
        pass
