"""Runs an offline model (.om) on a folder of batches with msame or ais_bench, and believes only
what it finds afterwards.

    python -m offline_inference.msame --om X.om --bins BINS --output RESULTS [--tool
    msame|ais_bench] [--device_id 0]

Neither tool's exit status says whether it worked: msame ends with 0 after most mistakes, and in
success if a later file fails.
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Any, List, NamedTuple, Optional, Sequence

import numpy as np

from common.errors import UserError, entry_point
from offline_inference import bins, freeze, manifest

SUCCESS = 'Execute sample success'
_STAMP = re.compile(
    r'(\d{8}_\d{6}|\d{5,8}_\d{1,2}_\d{1,2}_\d{1,2}_\d+|\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d)'
)  # msame before and since 2022, ais_bench
_CURES = (
    ('load model', 'is the .om whole, and converted for this chip (--soc_version)?'),
    (
        'open device',
        'there is no such device, or it is taken; npu-smi info lists them, --device_id chooses',
    ),
    (
        'op_size',
        (
            'the batches are not of the size that the model takes; write them with the --batch_size'
            ' and --input_dtype of the .om'
        ),
    ),
    (
        'not match',
        (
            'the batches are not of the size that the model takes; write them with the --batch_size'
            ' and --input_dtype of the .om'
        ),
    ),
    (
        'acl init',
        (
            'the driver or the CANN runtime is not set up: source'
            ' /usr/local/Ascend/ascend-toolkit/set_env.sh'
        ),
    ),
    ('malloc', 'the device or the host has too little memory; stop other programs on it'),
)


class Results(NamedTuple):
    """What a tool wrote."""

    files: List[pathlib.Path]  # one a batch, in the batches' order
    milliseconds: List[float]  # execution of each batch, without the copies to and from the device


def natural(name: str) -> List[Any]:
    """Sort key of file names: 10 after 9."""
    return [
        (0, int(part), '') if part.isdigit() else (1, 0, part)
        for part in re.split(r'(\d+)', name)
        if part
    ]


def require(tool: str) -> None:
    """Raises UserError if the tool is missing, before anything else takes time."""
    if tool == 'ais_bench':
        _python()
    elif not shutil.which('msame'):
        raise UserError(
            'msame is not on PATH; build it from https://gitee.com/ascend/tools (msame/build.sh),'
            ' or give --backend ais_bench'
        )


def _python() -> str:
    """A Python that has ais_bench: this one or the system's."""
    for python in (sys.executable, 'python3'):
        looked = [
            python,
            '-c',
            'import importlib.util, sys; sys.exit(importlib.util.find_spec("ais_bench") is None)',
        ]
        if (
            shutil.which(python)
            and subprocess.run(looked, stderr=subprocess.DEVNULL).returncode == 0
        ):
            return python
    raise UserError(
        'no Python has ais_bench (looked in %s and python3); install its wheels (aclruntime and'
        ' ais_bench, of the Ascend tools), or give --backend msame' % sys.executable
    )


def run(
    tool: str, om: pathlib.Path, folder: pathlib.Path, output: pathlib.Path, device_id: int = 0
) -> Results:
    """Runs the model on every batch of `folder` (see bins.py) and moves the results to `output`;
    taken from there if they are already.

    Raises UserError if the model and the batches do not belong together, or any result is missing
    or of a wrong size.
    """
    if not om.is_file():
        raise UserError('--om %s: no such file; python -m offline_inference.atc makes it' % om)
    found, model = bins.read(folder), manifest.made_of(om)
    if model is None:
        print(
            '%s: %s says nothing of it, so whether it fits %s shows only in the results'
            % (om, manifest.NAME, folder)
        )
    facts = found['made_of']
    manifest.same(
        str(om),
        model or {},
        {
            key: facts[key]
            for key in ('model', 'input_shape', 'input_dtype', 'normalization', 'checkpoint')
            if key in facts
        },
    )
    made_of = {
        'tool': tool,
        'om': model['sha256'] if model else manifest.sha256(om),
        'bins': found['id'],
    }
    before = manifest.read(output)
    names = [
        (
            '%s_output_0.bin' % pathlib.Path(name).stem
            if tool == 'msame'
            else '%s_0.bin' % pathlib.Path(name).stem
        )
        for name in sorted(found['crc32'])
    ]
    files = [output / name for name in names]
    if before.get('made_of') == made_of and not missing(files, facts['logits_shape']):
        return Results(files, before['milliseconds'])
    require(tool)
    if output.exists():
        if not output.is_dir() or any(output.iterdir()) and 'made_of' not in before:
            raise UserError('--output %s holds other things; give a new folder' % output)
        shutil.rmtree(str(output))
    freeze.make_folder(output.parent)
    # A fresh folder: no acl.json that msame would obey, one stamped folder in the end, and no path
    # with ".bin" or a comma in it.
    with tempfile.TemporaryDirectory(prefix='.%s-' % tool, dir=str(output.parent)) as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / 'model.om').symlink_to(om.resolve())
        (scratch / 'batches').symlink_to((folder / 'batches').resolve())
        if pathlib.Path('acl.json').exists():
            print(
                'acl.json in this folder (profiling, dump) has no effect here: %s is started in a'
                ' folder of its own' % tool
            )
        written, milliseconds, text = (_msame if tool == 'msame' else _ais_bench)(
            scratch, device_id
        )
        lost = missing([written / name for name in names], facts['logits_shape'])
        if lost:
            raise UserError(
                '%s ended in success, but did not write %s (%d of %d results are missing or have a'
                ' wrong size)%s' % (tool, lost[0].name, len(lost), len(names), _explain(text))
            )
        shutil.move(str(written), str(output))
    manifest.write(output, {'made_of': made_of, 'milliseconds': milliseconds})
    return Results(files, milliseconds)


def missing(files: Sequence[pathlib.Path], logits_shape: Sequence[int]) -> List[pathlib.Path]:
    """The files that are not there, or hold neither float16 nor float32 logits of this shape (text
    is not measured).
    """
    values = int(np.prod(logits_shape))
    return [
        path
        for path in files
        if not path.is_file()
        or path.suffix != '.txt'
        and path.stat().st_size not in (2 * values, 4 * values)
    ]


def _msame(scratch: pathlib.Path, device_id: int):
    words = [
        'msame',
        '--model',
        'model.om',
        '--input',
        'batches',
        '--output',
        'results',
        '--outfmt',
        'BIN',
        '--device',
        str(device_id),
    ]
    text, status = _call(words, scratch)
    if SUCCESS not in text:
        raise UserError('msame failed (status %d)%s' % (status, _explain(text)))
    printed = [
        line.strip()
        for line in text.splitlines()
        if _STAMP.fullmatch(line.strip().rpartition('/')[2])
    ]
    found = [scratch / line for line in printed if (scratch / line).is_dir()] or stamped(
        scratch / 'results'
    )
    if not found:
        raise UserError(
            'msame says "%s", but made no folder of results%s' % (SUCCESS, _explain(text))
        )
    return (
        found[-1],
        [float(value) for value in re.findall(r'Inference time:\s*([\d.eE+-]+)\s*ms', text)],
        text,
    )


def _ais_bench(scratch: pathlib.Path, device_id: int):
    words = [
        _python(),
        '-m',
        'ais_bench',
        '--model',
        'model.om',
        '--input',
        'batches',
        '--output',
        'results',
        '--output_dirname',
        'run',
        '--outfmt',
        'BIN',
        '--device',
        str(device_id),
    ]
    text, status = _call(words, scratch)
    try:
        summary = json.loads((scratch / 'results' / 'run_summary.json').read_text())
        return (
            scratch / 'results' / 'run',
            [float(value) for value in summary['npu_compute_time_list']],
            text,
        )
    except (OSError, ValueError, KeyError):
        raise UserError('ais_bench failed (status %d)%s' % (status, _explain(text)))


def _call(words: List[str], folder: pathlib.Path):
    done = subprocess.run(
        words,
        cwd=str(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        errors='replace',
    )
    return done.stdout, done.returncode


def _explain(text: str) -> str:
    """The tool's error lines, first and last, and the cure of what they say."""
    errors = [
        line.strip()
        for line in text.splitlines()
        if re.search(r'\[ERROR\]|^E\d{5}\s|Error\b|terminate called', line)
    ]
    cure = next((cure for sign, cure in _CURES if any(sign in line for line in errors)), None)
    return ''.join(
        [
            ': ' + ' | '.join(dict.fromkeys(errors[:3] + errors[-1:])) if errors else '',
            '; ' + cure if cure else '',
        ]
    )


def stamped(folder: pathlib.Path) -> List[pathlib.Path]:
    """Result folders in `folder` that have a date for a name, the newest last."""
    return sorted(
        (path for path in folder.glob('*') if path.is_dir() and _STAMP.fullmatch(path.name)),
        key=lambda path: path.stat().st_mtime,
    )


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        prog='python -m offline_inference.msame',
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--om', required=True, help='the model')
    parser.add_argument(
        '--bins', required=True, help='the folder that offline_inference.bins wrote'
    )
    parser.add_argument('--output', required=True, help='folder for the results')
    parser.add_argument('--tool', default='msame', choices=['msame', 'ais_bench'])
    parser.add_argument('--device_id', type=int, default=0, help='which NPU')
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    results = run(
        args.tool,
        pathlib.Path(args.om),
        pathlib.Path(args.bins),
        pathlib.Path(args.output),
        args.device_id,
    )
    print(
        '%s: %d batches, %.2f ms a batch'
        % (
            args.output,
            len(results.files),
            np.mean(results.milliseconds[1:] or results.milliseconds),
        )
    )


if __name__ == '__main__':
    main()
