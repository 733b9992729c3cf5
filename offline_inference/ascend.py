"""Frozen graph -> .om -> batches on disk -> msame or ais_bench -> figures, for
offline_inference.run.

What was done is not done again: each step's product carries a manifest. OUT/MODEL.om,
OUT/MODEL.aipp.cfg and OUT/TOOL/ with a folder for each chunk of batches: bins/, results/ and
score.json. If there are several chunks, or --chunk is given, the first two are deleted once the
third is written.
"""

import json
import pathlib
import shutil
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from common.ascend import npu_smi
from common.checkpoints import checkpoint
from common.data import records
from common.evaluation import evaluation
from common.task import Task
from offline_inference import aipp, atc, bins, freeze, manifest, msame, results, score

TOOLS = ('msame', 'ais_bench')
CHUNK_BYTES = 4e9  # on the disk; 500 photographs of 1024x2048 and their logits would be 170 GB


class Options(NamedTuple):
    """What the flags say."""

    input_dtype: str = 'float32'
    soc_version: Optional[str] = None
    atc_precision_mode: Optional[str] = None
    chunk: Optional[int] = None  # batches; None: what CHUNK_BYTES hold
    device_id: int = 0


def require(task: Task, tool: str, options: Options) -> Options:
    """Checks what the steps need before the first takes time; returns the options with the chip
    filled in.
    """
    if options.input_dtype == 'uint8':
        aipp.text(task)
    atc.require()
    msame.require(tool)
    return options._replace(soc_version=options.soc_version or npu_smi.soc_version())


def run(
    task: Task,
    found: checkpoint.Match,
    folder: records.Folder,
    frozen: pathlib.Path,
    stem: pathlib.Path,
    tool: str,
    options: Options,
) -> Tuple[results.Scored, List[float], atc.Request]:
    """Returns the sums over the split, the execution times of the batches in ms, and the
    conversion. stem: OUT/MODEL without a suffix.
    """
    conversion = atc.request(
        task,
        frozen,
        stem.with_suffix('.om'),
        options.soc_version,
        options.input_dtype,
        options.atc_precision_mode,
    )
    print(atc.shell(conversion.command()), flush=True)  # which takes minutes
    print(atc.convert(task, conversion))
    made_of = dict(
        bins.identity(task, folder, options.input_dtype), checkpoint=freeze.checksum(found)
    )
    total, each = bins.count(task, folder), bins.batch_bytes(made_of)
    size = options.chunk or max(1, min(total, int(CHUNK_BYTES // each)))
    if size < total:
        print(
            '%s; %d batches at a time, %.2f GB, are written, run, scored and deleted%s'
            % (
                bins.size_text(made_of, total),
                size,
                size * each / 1e9,
                '' if options.chunk else ' (--chunk N takes another number)',
            )
        )
    om = manifest.sha256(conversion.output)
    work = stem.parent / (tool + stem.name[len(task.name) :])
    scored, milliseconds = results.Scored(), []
    source, position = None, None  # the checkpoint's own network, and the next batch that it gives
    for start in range(0, total, size):
        place, count = (
            work / ('%06d-%06d' % (start, min(start + size, total))),
            min(size, total - start),
        )
        key = manifest.digest([om, made_of, start, count, options.device_id])
        done = _load(place / 'score.json', key)
        if done is None:
            chunk = dict(made_of, first_batch=start, batches=count)
            if bins.is_written(place / 'bins', chunk):
                print('%s: taken from an earlier run' % (place / 'bins'))
            else:
                if position != start:
                    source = freeze.online(
                        task,
                        found,
                        lambda: task.dataset(folder, task.cfg.batch_size, False).skip(start),
                    )
                bins.write(place / 'bins', chunk, source, count)
                position = start + count
            ran = msame.run(
                tool, conversion.output, place / 'bins', place / 'results', options.device_id
            )
            part = results.compare(task, place / 'bins', place / 'results', ran.files)
            # The first execution of a process also sets things up.
            done = part, ran.milliseconds[1:] or ran.milliseconds
            _save(place / 'score.json', key, *done)
        else:
            print(
                '%s: taken from an earlier run; delete it to run the model again'
                % (place / 'score.json')
            )
        if options.chunk or size < total:
            for name in ('bins', 'results'):
                shutil.rmtree(str(place / name), ignore_errors=True)
        scored, milliseconds = scored.add(done[0]), milliseconds + done[1]
    return scored, milliseconds, conversion


def _save(path: pathlib.Path, key: str, scored: results.Scored, milliseconds: List[float]) -> None:
    def plain(counts):
        return {name: np.asarray(value).tolist() for name, value in counts.items()}

    evaluation.write_json(
        str(path),
        dict(
            key=key,
            online=plain(scored.online),
            offline=plain(scored.offline),
            agreement=list(scored.agreement),
            milliseconds=milliseconds,
        ),
    )


def _load(path: pathlib.Path, key: str) -> Optional[Tuple[results.Scored, List[float]]]:
    """The sums of a chunk that an earlier run scored; None if there are none, or of something else."""
    try:
        found: Dict[str, Any] = json.loads(path.read_text())
        if found['key'] != key:
            return None
        return (
            results.Scored(found['online'], found['offline'], score.Agreement(*found['agreement'])),
            found['milliseconds'],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
