"""Frozen graph -> offline model (.om) with CANN's atc: refuses what atc would refuse after its long
start, runs it, and explains its errors.

    python -m offline_inference.atc --model wideresnet --config C --frozen F.pb --output X.om
    [--soc_version Ascend310] [--dry_run]

Every other flag is one of the model's configuration (--batch_size 1).
"""

import os
import pathlib
import re
import shlex
import shutil
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from common.errors import UserError, entry_point
from offline_inference import cli


def _parse(argv: cli.Argv = None) -> cli.Parsed:
    parser = cli.Parser('atc', __doc__)
    parser.add_argument(
        '--frozen',
        required=True,
        help='the .pb file that offline_inference.freeze wrote (float32 input)',
    )
    parser.add_argument('--output', required=True, help='the .om file to write')
    parser.add_conversion()
    parser.add_argument(
        '--log',
        default='error',
        choices=['null', 'debug', 'info', 'warning', 'error'],
        help="atc's log level",
    )
    parser.add_argument(
        '--dry_run',
        action='store_true',
        help='print the command and write the AIPP file, but do not run atc',
    )
    return parser.parse_model(argv)


if __name__ == '__main__':
    entry_point(_parse)()  # before the imports below, which take seconds

import tensorflow as tf

from common.ascend import error_codes, npu_smi
from common.files import checksum, temporary_folder, write_text
from offline_inference import aipp, manifest, pb
from offline_inference.reference import Reference

SUCCESS = 'ATC run success'  # its exit status says less
DEFAULT_PRECISION = 'force_fp16'  # atc's own
FLOAT_MODES = ('force_fp32', 'must_keep_origin_dtype')  # nothing is rounded to float16
_PATH = re.compile('[\u4e00-\u9fa5A-Za-z0-9./_-]+')


class Conversion(NamedTuple):
    """One call of atc."""

    model: str
    frozen: pathlib.Path
    output: pathlib.Path  # X.om
    soc_version: str
    input_shape: List[int]
    output_name: str
    precision_mode: str = DEFAULT_PRECISION
    log: str = 'error'
    aipp: Optional[pathlib.Path] = None

    @property
    def flags(self) -> Dict[str, Any]:
        """atc's flags but for paths."""
        flags = dict(
            framework=3,  # TensorFlow
            soc_version=self.soc_version,
            input_format='NHWC',
            input_shape='%s:%s' % (pb.INPUT, ','.join(map(str, self.input_shape))),
            out_nodes=self.output_name + ':0',
            output_type='FP32',
            log=self.log,
        )
        if self.precision_mode != DEFAULT_PRECISION:
            flags['precision_mode'] = self.precision_mode
        return flags

    def command(self) -> List[str]:
        """The command and its arguments; atc itself appends .om to --output."""
        flags = dict(model=self.frozen, output=self.output.with_suffix(''), **self.flags)
        if self.aipp:
            flags['insert_op_conf'] = self.aipp
        return ['atc'] + ['--%s=%s' % item for item in flags.items()]

    @property
    def is_exact(self) -> bool:
        """Whether nothing is rounded to float16, in which AIPP computes, and so do the matrix units
        of a 310B in every mode.
        """
        half = self.aipp or self.soc_version.startswith('Ascend310B')
        return self.precision_mode in FLOAT_MODES and not half


def shell(command: Sequence[str]) -> str:
    """A command line that can be pasted."""
    return ' '.join(map(shlex.quote, command))


def require() -> None:
    """Raises UserError if atc is missing."""
    if not shutil.which('atc'):
        raise UserError(
            'atc is not on PATH; it comes with the CANN toolkit: source'
            ' /usr/local/Ascend/ascend-toolkit/set_env.sh (elsewhere: python -m'
            ' offline_inference.atc --dry_run prints the command)'
        )


def plan(
    reference: Reference,
    frozen: pathlib.Path,
    output: pathlib.Path,
    soc_version: Optional[str] = None,
    input_dtype: str = 'float32',
    precision_mode: Optional[str] = None,
    log: str = 'error',
) -> Conversion:
    """Returns the conversion of a frozen graph; with uint8 the AIPP file is written beside
    `output`. UserError for what atc would refuse.
    """
    output = pathlib.Path(os.path.abspath(output))
    output = output if output.suffix == '.om' else output.with_name(output.name + '.om')
    conversion = Conversion(
        model=reference.name,
        frozen=pathlib.Path(os.path.abspath(frozen)),
        output=output,
        soc_version=soc_version or npu_smi.soc_version(),
        input_shape=reference.input_shape,
        output_name=reference.output_name,
        precision_mode=precision_mode or reference.task.offline.precision_mode or DEFAULT_PRECISION,
        log=log,
        aipp=output.with_suffix('.aipp.cfg') if input_dtype == 'uint8' else None,
    )
    _check(reference, conversion)
    if conversion.aipp:
        write_text(conversion.aipp, aipp.text(reference))
    return conversion


def _check(reference: Reference, conversion: Conversion) -> None:
    """Raises UserError for paths and graphs that atc does not take."""
    for flag, path in (('--frozen', conversion.frozen), ('--output', conversion.output)):
        if not _PATH.fullmatch(str(path)):
            raise UserError(
                '%s %s: atc takes paths of letters, digits and . / _ - only, no blanks; move or'
                ' rename the file' % (flag, path)
            )
    graph = pb.load(conversion.frozen, reference).as_graph_def()
    for node in tf.graph_util.extract_sub_graph(graph, [conversion.output_name]).node:
        if pb.NOT_INFERENCE.match(node.op):
            raise _error(
                'E19010', 'No parser is registered for Op [%s, optype [%s]]' % (node.name, node.op)
            )
    sources = manifest.sources(conversion.frozen) or {}
    expected = {'model': reference.name, 'input_dtype': 'float32'}
    manifest.require_same(str(conversion.frozen), sources, expected)


def convert(conversion: Conversion) -> str:
    """Runs atc unless the .om was made from the same before; returns a summary to print. UserError
    says what atc refused and how to fix it.
    """
    frozen = manifest.sources(conversion.frozen) or {}
    sources = dict(
        {key: frozen[key] for key in ('checkpoint', 'normalization') if key in frozen},
        model=conversion.model,
        input_shape=conversion.input_shape,
        input_dtype='uint8' if conversion.aipp else 'float32',
        flags=conversion.flags,
        pb_sha256=checksum(conversion.frozen),
        aipp_sha256=checksum(conversion.aipp) if conversion.aipp else None,
    )
    if manifest.is_current(conversion.output, **sources):
        return '%s: taken from an earlier run (the same graph, the same flags)' % conversion.output
    require()
    conversion.output.parent.mkdir(parents=True, exist_ok=True)
    if conversion.output.exists():
        conversion.output.unlink()  # or a failure would leave the old one
    log = conversion.output.with_suffix('.atc.log')
    with temporary_folder('atc') as scratch:  # where atc leaves files
        text, status = cli.call(conversion.command(), scratch)
    write_text(log, shell(conversion.command()) + '\n' + text)
    if SUCCESS not in text:
        raise explain(text, status, log)
    if not conversion.output.is_file():
        raise UserError(
            'atc says "%s", but %s does not exist; see %s' % (SUCCESS, conversion.output, log)
        )
    manifest.record(conversion.output, **sources)
    size = conversion.output.stat().st_size / 1e6
    return '%s: %.2f MB, for %s' % (conversion.output, size, conversion.soc_version)


def _error(code: str, text: str) -> UserError:
    fix = error_codes.ATC.get(code)
    return UserError('%s: %s%s' % (code, text.rstrip('. '), '; ' + fix if fix else ''))


def explain(output: str, status: int, log: pathlib.Path) -> UserError:
    """Returns the error in atc's output, with the fix for its code."""
    # CANN 8 puts [PID: n] and the time between the code and the sentence.
    pattern = r'^\s*(E[A-Z]?\d{4,5})\s*:\s*(?:\[PID: \d+\]\s*\S+\s*)?(.*)$'
    for code, text in re.findall(pattern, output, re.M):
        if code in error_codes.ATC:
            return UserError('atc: %s (all of its output: %s)' % (_error(code, text), log))
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r'error|E[A-Z]?\d{4,5}', line, re.I)] + lines
    return UserError(
        'atc failed with status %d: %s; see %s'
        % (status, errors[0] if errors else 'it printed nothing', log)
    )


@entry_point
def main(argv: cli.Argv = None) -> None:
    args, cfg = _parse(argv)
    conversion = plan(
        Reference(cli.load(cfg), cfg),
        pathlib.Path(args.frozen),
        pathlib.Path(args.output),
        args.soc_version,
        args.input_dtype,
        args.atc_precision_mode,
        args.log,
    )
    print(shell(conversion.command()))
    if not args.dry_run:
        print(convert(conversion))


if __name__ == '__main__':
    main()
