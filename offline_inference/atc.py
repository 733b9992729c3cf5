"""Frozen graph -> offline model (.om) with CANN's atc: builds the command, refuses what atc would
refuse, runs it, explains its errors.

    python -m offline_inference.atc --model wideresnet --config C --frozen F.pb --output X.om
    [--soc_version Ascend310] [--dry_run]

Every other flag is one of the model's configuration (--batch_size 1).
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import tensorflow as tf

from common.ascend import npu_smi
from common.errors import UserError, entry_point, suggest
from common.files import atomic
from common.task import Task
from offline_inference import aipp, freeze, manifest, pb
from offline_inference.atc_errors import failure, refuse

SUCCESS = 'ATC run success'  # its exit status says less
FLOAT_MODES = ('force_fp32', 'must_keep_origin_dtype', 'origin')  # nothing is rounded to float16
DYNAMIC = ('dynamic_batch_size', 'dynamic_image_size', 'dynamic_dims')
_PATH = re.compile('[\u4e00-\u9fa5A-Za-z0-9./_-]+')
# What the parser of inference graphs does not know: variables, data, training.
_NOT_FROZEN = re.compile(
    'Variable|VarHandleOp|VarIsInit|ReadVariableOp|IsVariableInit|Assign|Assert$|Print|NoOp$|Dropout$|Apply|ResourceApply|'
    '.*(Iterator|Dataset|Queue|Summary|PyFunc|Grad$)'
)


class Request(NamedTuple):
    """One conversion, in atc's words."""

    frozen: pathlib.Path
    output: pathlib.Path  # X.om
    soc_version: str
    input_shape: str
    out_nodes: str
    precision_mode: Optional[str] = None
    output_type: str = 'FP32'
    log: str = 'error'
    aipp: Optional[pathlib.Path] = None
    dynamic: Dict[str, str] = {}  # one of DYNAMIC -> profiles

    def flags(self) -> Dict[str, Any]:
        """atc's flags but for paths."""
        flags = dict(
            framework=3,
            soc_version=self.soc_version,
            input_format='ND' if 'dynamic_dims' in self.dynamic else 'NHWC',
            input_shape=self.input_shape,
            out_nodes=self.out_nodes,
            output_type=self.output_type,
            log=self.log,
            **self.dynamic,
        )
        return dict(flags, precision_mode=self.precision_mode) if self.precision_mode else flags

    def command(self) -> List[str]:
        """The words of the command; atc itself appends .om to --output."""
        flags = dict(model=self.frozen, output=self.output.with_suffix(''), **self.flags())
        if self.aipp:
            flags['insert_op_conf'] = self.aipp
        return ['atc'] + ['--%s=%s' % item for item in flags.items()]


def shell(words: Sequence[str]) -> str:
    """A command line that can be pasted."""
    return ' '.join(re.sub(r'=(.*[;:,].*)', r'="\1"', word) for word in words)


def require() -> None:
    """Raises UserError if atc is missing, before anything else takes time."""
    if not shutil.which('atc'):
        raise UserError(
            'atc is not on PATH; it comes with the CANN toolkit: source'
            ' /usr/local/Ascend/ascend-toolkit/set_env.sh (elsewhere: python -m'
            ' offline_inference.atc --dry_run prints the command)'
        )


def check(request: Request) -> None:
    """Raises UserError, with atc's code, for what atc would refuse after its long start."""
    for flag, path in (('--frozen', request.frozen.resolve()), ('--output', request.output)):
        if not _PATH.fullmatch(str(path)):
            raise refuse(
                'E10001',
                '%s %s: atc takes paths of letters, digits and . / _ - only, no blanks'
                % (flag, path),
            )
    _check_dynamic(request)
    if not request.frozen.is_file():
        pb.read(request.frozen)  # says it
    if not request.frozen.stat().st_size:
        raise refuse('E19015', 'File [%s] is empty' % request.frozen)
    graph = pb.read(request.frozen)
    if not graph.node:
        raise refuse(
            'E10041', 'Failed to load the model from [%s]: it holds no nodes' % request.frozen
        )
    nodes = {node.name: node for node in graph.node}
    for item in request.out_nodes.split(';'):
        name, _, index = item.partition(':')
        if not index.isdigit():
            raise refuse(
                'E10001',
                'Value [%s] for --out_nodes is invalid, the form is "node:0;node2:0"' % item,
            )
        _known(name, nodes, 'out_nodes')
    needed = _needed(nodes, [item.partition(':')[0] for item in request.out_nodes.split(';')])
    for node in needed:
        if _NOT_FROZEN.match(node.op):
            raise refuse(
                'E19010', 'No parser is registered for Op [%s, optype [%s]]' % (node.name, node.op)
            )
    shapes = _shapes(request)
    for name, shape in shapes.items():
        _known(name, nodes, 'input_shape')
        if nodes[name].op != 'Placeholder':
            raise refuse(
                'E10017',
                'Input Op [%s] specified in [--input_shape] is a %s' % (name, nodes[name].op),
            )
        declared = tf.TensorShape(nodes[name].attr['shape'].shape)
        if declared.dims and len(declared) != len(shape):
            raise refuse(
                'E10049',
                'Dimension count [%d] configured in [--input_shape] does not match dimension count'
                ' [%d] of the node' % (len(shape), len(declared)),
            )
        if declared.dims and any(
            size not in (None, wanted) and wanted != -1
            for size, wanted in zip(declared.as_list(), shape)
        ):
            raise UserError(
                '--input_shape %s:%s: %s was frozen for %s; freeze it for this shape'
                ' (--batch_size), or leave the flag out'
                % (name, ','.join(map(str, shape)), request.frozen, declared.as_list())
            )
    for node in needed:
        if (
            node.op == 'Placeholder'
            and node.name not in shapes
            and not tf.TensorShape(node.attr['shape'].shape).is_fully_defined()
        ):
            raise refuse('E11005', 'Placeholder [%s] has no shape in --input_shape' % node.name)


def _known(name: str, nodes: Dict[str, Any], flag: str) -> None:
    if name not in nodes:
        raise refuse(
            'E10016',
            'Opname [%s] specified in [--%s] is not found in the model%s'
            % (name, flag, suggest(name, nodes)),
        )


def _needed(nodes: Dict[str, tf.NodeDef], outputs: List[str]) -> List[tf.NodeDef]:
    """The nodes that the outputs need; atc leaves the others out."""
    found, waiting = {}, list(outputs)
    while waiting:
        name = waiting.pop()
        if name not in found:
            if name not in nodes:
                raise refuse(
                    'E12009', 'Node [%s] is an input of another, but not in the graph' % name
                )
            found[name] = nodes[name]
            waiting += [text.lstrip('^').partition(':')[0] for text in nodes[name].input]
    return list(found.values())


def _shapes(request: Request) -> Dict[str, List[int]]:
    shapes = {}
    for item in request.input_shape.split(';'):
        name, colon, numbers = item.rpartition(':')
        if not colon or not re.fullmatch(r'\s*-?\d+\s*(,\s*-?\d+\s*)*', numbers):
            raise refuse('E10002', 'Value [%s] for parameter [--input_shape] is invalid' % item)
        shapes[name.strip()] = [int(number) for number in numbers.split(',')]
        for size in shapes[name.strip()]:
            if size <= 0 and not (request.dynamic and size == -1):
                raise refuse(
                    'E10011',
                    'Value [%s] for parameter [--input_shape] holds %d, which is not a positive'
                    ' integer' % (item, size),
                )
    return shapes


def _check_dynamic(request: Request) -> None:
    """The rules of dynamic sizes; the model itself is not needed for them."""
    shapes = _shapes(request)
    if len(request.dynamic) > 1:
        raise refuse('E10009', '--%s exclude each other' % ' and --'.join(sorted(request.dynamic)))
    for flag, text in request.dynamic.items():
        if not re.fullmatch(
            r'\d+(,\d+)*' if flag == 'dynamic_batch_size' else r'\d+(,\d+)*(;\d+(,\d+)*)*', text
        ):
            raise refuse('E10003', 'Value [%s] for parameter [--%s] is invalid' % (text, flag))
        profiles = [
            tuple(map(int, part.split(',')))
            for part in text.split(',' if flag == 'dynamic_batch_size' else ';')
        ]
        free = {
            name: [axis for axis, size in enumerate(shape) if size == -1]
            for name, shape in shapes.items()
        }
        numbers = sum(map(len, free.values()))
        if flag == 'dynamic_batch_size' and any(axes not in ([], [0]) for axes in free.values()):
            raise refuse(
                'E10018',
                'Value [-1] for shape is invalid in --input_shape %s' % request.input_shape,
            )
        if flag == 'dynamic_batch_size' and not numbers:
            raise refuse(
                'E10031',
                'No input of --input_shape %s has a batch size of -1' % request.input_shape,
            )
        if flag == 'dynamic_image_size' and (
            not numbers or any(axes not in ([], [1, 2]) for axes in free.values())
        ):
            raise refuse(
                'E10019',
                '--input_shape %s does not leave height and width open' % request.input_shape,
            )
        if flag == 'dynamic_dims' and request.aipp:
            raise refuse(
                'E10001',
                'dynamic dims function does not support aipp: --input_dtype uint8 and'
                ' --dynamic_dims exclude each other',
            )
        wanted = {'dynamic_batch_size': 1, 'dynamic_image_size': 2, 'dynamic_dims': numbers}[flag]
        if not wanted or any(len(profile) != wanted for profile in profiles):
            raise refuse(
                'E10003',
                'Value [%s] for parameter [--%s] is invalid: each profile needs %d numbers, one for'
                ' each -1' % (text, flag, wanted),
            )
        if len(profiles) < 2 or len(profiles) > 100:
            raise refuse(
                'E10035' if len(profiles) < 2 else 'E10036',
                'There are [%d] profiles' % len(profiles),
            )
        if min(map(min, profiles)) <= 0:
            raise refuse('E10038', 'Dimension size [0] of a profile is not positive')
        if len(set(profiles)) < len(profiles):
            raise refuse('E10039', 'A profile is given twice')


def request(
    task: Task,
    frozen: pathlib.Path,
    output: pathlib.Path,
    soc: Optional[str] = None,
    input_dtype: str = 'float32',
    precision_mode: Optional[str] = None,
    **changes: Any,
) -> Request:
    """The conversion of a task's frozen graph; `changes` are fields of Request. uint8: beside
    `output` the AIPP file is written.
    """
    shape = [task.cfg.batch_size] + list(task.input_shape)
    if 'dynamic_batch_size' in changes.get('dynamic', {}):
        shape[0] = -1
    if 'dynamic_image_size' in changes.get('dynamic', {}):
        shape[1:3] = -1, -1
    output = pathlib.Path(os.path.abspath(str(output)))
    output = output if output.suffix == '.om' else output.with_name(output.name + '.om')
    conversion = Request(
        frozen=pathlib.Path(os.path.abspath(str(frozen))),
        output=output,
        soc_version=soc or npu_smi.soc_version(),
        precision_mode=precision_mode or task.atc_precision_mode,
        aipp=output.with_suffix('.aipp.cfg') if input_dtype == 'uint8' else None,
        input_shape='%s:%s' % (pb.INPUT, ','.join(map(str, shape))),
        out_nodes=task.output_name + ':0',
    )
    conversion = conversion._replace(**{key: value for key, value in changes.items() if value})
    check(conversion)
    made_of = manifest.made_of(conversion.frozen) or {}
    manifest.same(str(conversion.frozen), made_of, {'model': task.name, 'input_dtype': 'float32'})
    if conversion.aipp:
        content = aipp.text(task)
        freeze.make_folder(output.parent)
        with atomic(conversion.aipp) as temporary:
            temporary.write_text(content)
    return conversion


def convert(task: Task, conversion: Request) -> str:
    """Runs atc; returns what to tell. Skips it if the .om is there and was made of the same.
    UserError says what atc refused and the cure.
    """
    wanted = dict(
        description(task, conversion),
        pb_sha256=manifest.sha256(conversion.frozen),
        flags=conversion.flags(),
    )
    if conversion.aipp:
        wanted['aipp_sha256'] = manifest.sha256(conversion.aipp)
    if manifest.is_made_of(conversion.output, **wanted):
        return '%s: taken from an earlier run (the same graph, the same flags)' % conversion.output
    require()
    freeze.make_folder(conversion.output.parent)
    if conversion.output.exists():
        conversion.output.unlink()  # or a failure would leave the old one
    log = conversion.output.with_suffix('.atc.log')
    with tempfile.TemporaryDirectory(
        prefix='atc-'
    ) as scratch:  # atc leaves files where it is started
        done = subprocess.run(
            conversion.command(),
            cwd=scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            errors='replace',
        )
    log.write_text(shell(conversion.command()) + '\n' + done.stdout)
    if SUCCESS not in done.stdout:
        raise failure(done.stdout, done.returncode, log)
    if not conversion.output.is_file():
        raise UserError(
            'atc says "%s", but %s is not there; see %s' % (SUCCESS, conversion.output, log)
        )
    manifest.record(conversion.output, **wanted)
    return '%s: %.2f MB, for %s' % (
        conversion.output,
        conversion.output.stat().st_size / 1e6,
        conversion.soc_version,
    )


def description(task: Task, conversion: Request) -> Dict[str, Any]:
    """What later steps must agree with."""
    entry = manifest.made_of(conversion.frozen) or {}
    shape = _shapes(conversion).get(pb.INPUT)
    facts = dict(
        model=task.name,
        input_shape=shape,
        input_dtype='uint8' if conversion.aipp else 'float32',
        precision_mode=conversion.precision_mode or 'force_fp16',
        soc_version=conversion.soc_version,
    )
    return dict(
        facts, **{key: entry[key] for key in ('checkpoint', 'normalization') if key in entry}
    )


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = freeze.Parser('python -m offline_inference.atc', __doc__)
    parser.add_argument(
        '--frozen',
        required=True,
        help='the .pb file that offline_inference.freeze wrote (float32 input)',
    )
    parser.add_argument('--output', required=True, help='the .om file to write')
    add_flags(parser)
    parser.add_argument('--input_shape', help='instead of inputx:N,H,W,C of the configuration')
    parser.add_argument('--out_nodes', help="instead of the model's logits")
    parser.add_argument('--output_type', help='FP32 (default), FP16, UINT8, ...')
    parser.add_argument(
        '--log', choices=['null', 'debug', 'info', 'warning', 'error'], help="atc's log level"
    )
    for flag, form in zip(DYNAMIC, ('1,2,4', 'h,w;h,w', 'a,b;c,d')):
        parser.add_argument('--' + flag, help='profiles "%s" instead of one fixed shape' % form)
    parser.add_argument(
        '--dry_run',
        action='store_true',
        help='print the command (and write the AIPP file), do not start it',
    )
    args, task, _ = parser.parse(sys.argv[1:] if argv is None else argv)
    dynamic = {flag: getattr(args, flag) for flag in DYNAMIC if getattr(args, flag)}
    conversion = request(
        task,
        pathlib.Path(args.frozen),
        pathlib.Path(args.output),
        args.soc_version,
        args.input_dtype,
        args.atc_precision_mode,
        input_shape=args.input_shape,
        out_nodes=args.out_nodes,
        output_type=args.output_type,
        log=args.log,
        dynamic=dynamic,
    )
    print(shell(conversion.command()))
    if not args.dry_run:
        print(convert(task, conversion))


def add_flags(parser: freeze.Parser) -> None:
    """Flags of a conversion that offline_inference.run has as well."""
    parser.add_argument(
        '--soc_version', help='the chip, such as Ascend310; by default what npu-smi info shows'
    )
    parser.add_argument(
        '--input_dtype',
        default='float32',
        choices=['float32', 'uint8'],
        help='uint8: normalisation is part of the model',
    )
    parser.add_argument(
        '--atc_precision_mode', help="instead of the model's own (ATC's default is force_fp16)"
    )


if __name__ == '__main__':
    main()
