"""Runs an offline model (.om) on a folder of batches with msame or ais_bench, and trusts only the
files that it finds afterwards.

    python -m offline_inference.msame --om X.om --bins BINS --output RESULTS [--tool
    msame|ais_bench] [--device_id 0]

The exit status of neither tool tells whether it worked: msame ends with 0 after most mistakes, and
reports success although a later file failed.
"""

import argparse
import os
import pathlib
import re
import shutil
import sys
from typing import Any, Callable, List, NamedTuple, Sequence, Tuple

from common.ascend import cann
from common.errors import Parser, UserError, at_least, entry_point
from offline_inference import cli


def _parse(argv: cli.Argv = None) -> argparse.Namespace:
    parser = Parser(prog='python -m offline_inference.msame', description=__doc__)
    parser.add_argument('--om', required=True, help='the model')
    parser.add_argument(
        '--bins', required=True, help='the folder that offline_inference.bins wrote'
    )
    parser.add_argument('--output', required=True, help='folder for the results')
    parser.add_argument('--tool', default='msame', choices=['msame', 'ais_bench'])
    parser.add_argument('--device_id', type=at_least(0), default=0, help='which NPU')
    return parser.parse_args(argv)


if __name__ == '__main__':
    entry_point(_parse)()  # before the imports below, which take seconds

import numpy as np

from common.files import checksum, read_json, temporary_folder
from offline_inference import manifest
from offline_inference.bins import Bins

SUCCESS = 'Execute sample success'
# Names of result folders: of msame before and since 2022, and of ais_bench.
_STAMP = re.compile(
    r'(\d{8}_\d{6}|\d{5,8}_\d{1,2}_\d{1,2}_\d{1,2}_\d+|\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d)'
)
_WRONG_SIZE = (
    'the batches do not have the size that the model takes; write them with the --batch_size and'
    ' --input_dtype of the .om'
)
_FIXES = {  # by a part of the tool's message
    'load model': 'is the .om complete, and converted for this chip (--soc_version)?',
    'open device': (
        'there is no such device, or it is in use; npu-smi info lists them, --device_id selects one'
    ),
    'op_size': _WRONG_SIZE,
    'not match': _WRONG_SIZE,
    'acl init': (
        'the driver or the CANN runtime is not set up: source'
        ' /usr/local/Ascend/ascend-toolkit/set_env.sh'
    ),
    'malloc': 'the device or the host has too little memory; stop other programs on it',
}


class Results(NamedTuple):
    """Files of logits, one a batch in order, and the execution times in ms without copies to and
    from the device. The first execution, which also sets the device up, is left out of several.
    """

    files: List[pathlib.Path]
    milliseconds: List[float]


class _Output(NamedTuple):
    folder: pathlib.Path  # of results
    milliseconds: List[float]  # of every batch
    text: str  # that the tool printed


class _Tool(NamedTuple):
    require: Callable[[], Any]  # raises UserError if the tool is missing
    execute: Callable[[pathlib.Path, int], _Output]  # in a folder of its own, on a device
    result: str  # name of a batch's file of logits


def run(
    tool: str, om: pathlib.Path, batches: Bins, output: pathlib.Path, device_id: int = 0
) -> Results:
    """Runs the model on every batch and moves the results to `output`, or takes them from there if
    they were made from the same model and batches.

    Raises UserError if the model and the batches do not belong together, or a result is missing or
    of a wrong size.
    """
    if not om.is_file():
        raise UserError('--om %s: no such file; python -m offline_inference.atc makes it' % om)
    sources = {'tool': tool, 'om': _check_model(om, batches), 'bins': batches.checksum}
    names = [TOOLS[tool].result % pathlib.Path(name).stem for name in batches.names]
    earlier = manifest.current(output, sources)
    if earlier:
        return _results(output, names, earlier['milliseconds'])
    TOOLS[tool].require()
    manifest.remove_earlier(output)
    # A fresh folder: no acl.json that msame would obey, one stamped folder in the end, and no path
    # with ".bin" or a comma in it.
    with temporary_folder(tool, output.parent) as scratch:
        (scratch / 'batches').mkdir(mode=0o700)
        _link_or_copy(om, scratch / 'model.om')
        for name in batches.names:
            _link_or_copy(batches.path / 'batches' / name, scratch / 'batches' / name)
        if pathlib.Path('acl.json').exists():
            print('acl.json in this folder (profiling, dump) has no effect on %s' % tool)
        tool_output = TOOLS[tool].execute(scratch, device_id)
        values = np.prod(batches.description['logits_shape'])
        missing = [name for name in names if not _is_complete(tool_output.folder / name, values)]
        if missing:
            raise UserError(
                '%s reported success, but did not write %s (%d of %d results are missing or have a'
                ' wrong size)%s'
                % (tool, missing[0], len(missing), len(names), _explain(tool_output.text))
            )
        manifest.seal(tool_output.folder, sources, milliseconds=tool_output.milliseconds)
        tool_output.folder.rename(output)
    return _results(output, names, tool_output.milliseconds)


def _check_model(om: pathlib.Path, batches: Bins) -> str:
    """Returns the checksum of the .om; UserError if it does not fit the batches by its manifest."""
    sources = manifest.sources(om)
    if sources is None:
        print(
            '%s: %s does not mention it, so whether it fits %s shows only in the results'
            % (om, manifest.NAME, batches.path)
        )
        return checksum(om)
    manifest.require_same(str(om), sources, batches.description)
    return sources['sha256']


def _link_or_copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """Makes a hard link or a copy: ais_bench refuses soft links and files that others may write."""
    source = source.resolve()
    try:
        if source.stat().st_mode & 0o022:
            raise PermissionError
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
        target.chmod(0o600)


def _results(folder: pathlib.Path, names: Sequence[str], milliseconds: List[float]) -> Results:
    return Results([folder / name for name in names], milliseconds[1:] or milliseconds)


def _is_complete(path: pathlib.Path, values: int) -> bool:
    """Whether a file holds so many logits in float16 or float32."""
    return path.is_file() and path.stat().st_size in (2 * values, 4 * values)


def stamped(folder: pathlib.Path) -> List[pathlib.Path]:
    """Returns the folders of results in `folder`, whose names are dates, the newest last."""
    dated = (path for path in folder.glob('*') if path.is_dir() and _STAMP.fullmatch(path.name))
    return sorted(dated, key=lambda path: path.stat().st_mtime)


def _require_msame() -> None:
    if not shutil.which('msame'):
        raise UserError(
            'msame is not on PATH; build it from https://gitee.com/ascend/tools (msame/build.sh),'
            ' or give --backend ais_bench'
        )


def _msame(scratch: pathlib.Path, device_id: int) -> _Output:
    text, status = _call(['msame'], scratch, device_id)
    if SUCCESS not in text:
        raise UserError('msame failed (status %d)%s' % (status, _explain(text)))
    folders = stamped(scratch / 'results')
    if not folders:
        raise UserError(
            'msame reported "%s", but made no folder of results%s' % (SUCCESS, _explain(text))
        )
    times = re.findall(r'Inference time:\s*([\d.eE+-]+)\s*ms', text)
    return _Output(folders[-1], [float(value) for value in times], text)


def _python() -> str:
    python = cann.python_with_ais_bench()
    if python:
        return python
    raise UserError(
        'no Python has ais_bench (looked in %s and python3); install its wheels (aclruntime and'
        ' ais_bench, of the Ascend tools), or give --backend msame' % sys.executable
    )


def _ais_bench(scratch: pathlib.Path, device_id: int) -> _Output:
    command = [_python(), '-m', 'ais_bench', '--output_dirname', 'run']
    text, status = _call(command, scratch, device_id)
    try:
        summary = read_json(scratch / 'results' / 'run_summary.json')
        times = [float(value) for value in summary['npu_compute_time_list']]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError('ais_bench failed (status %d)%s' % (status, _explain(text)))
    return _Output(scratch / 'results' / 'run', times, text)


TOOLS = {
    'msame': _Tool(_require_msame, _msame, '%s_output_0.bin'),
    'ais_bench': _Tool(_python, _ais_bench, '%s_0.bin'),
}


def _call(command: List[str], scratch: pathlib.Path, device_id: int) -> Tuple[str, int]:
    command = [*command, '--model', 'model.om', '--input', 'batches', '--output', 'results']
    return cli.call([*command, '--outfmt', 'BIN', '--device', str(device_id)], scratch)


def _explain(text: str) -> str:
    """Returns the tool's error lines, first and last, and how to fix what they say."""
    pattern = r'\[ERROR\]|^E\d{5}\s|Error\b|terminate called'
    errors = [line.strip() for line in text.splitlines() if re.search(pattern, line)]
    message = ' | '.join(dict.fromkeys(errors[:3] + errors[-1:]))
    fixes = [fix for part, fix in _FIXES.items() if any(part in line for line in errors)]
    return (': ' + message if message else '') + ('; ' + fixes[0] if fixes else '')


@entry_point
def main(argv: cli.Argv = None) -> None:
    args = _parse(argv)
    om, output = pathlib.Path(args.om), pathlib.Path(args.output)
    results = run(args.tool, om, Bins.open(pathlib.Path(args.bins)), output, args.device_id)
    mean = np.mean(results.milliseconds)
    print('%s: %d batches, %.2f ms a batch' % (args.output, len(results.files), mean))


if __name__ == '__main__':
    main()
