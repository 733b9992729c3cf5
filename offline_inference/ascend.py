"""Frozen graph -> .om -> batches on disk -> msame or ais_bench -> figures, for
offline_inference.run.

What was done is not done again: each step's product has a manifest. OUT/MODEL.om,
OUT/MODEL.aipp.cfg and OUT/TOOL/ with a folder for each chunk of batches: bins/, results/ and
score.json. If there are several chunks, or --chunk is given, the first two are deleted once the
third is written.
"""

import itertools
import json
import pathlib
import shutil
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from common.data import records
from common.files import write_json
from offline_inference import agreement, atc, bins, manifest, msame
from offline_inference.reference import Batch, Reference
from offline_inference.score import Scored, score_files

CHUNK_BYTES = 4e9  # on the disk; 500 street scenes of 1024x2048 and their logits take 170 GB


class Job(NamedTuple):
    """A converted model and the split that a tool runs it on."""

    reference: Reference
    folder: records.Folder
    tool: str
    om: pathlib.Path
    description: Dict[str, Any]  # of the batches, see bins.describe
    work: pathlib.Path  # a folder for each chunk goes here
    device_id: int
    keep: bool  # batches and results stay on the disk


def run(
    reference: Reference,
    folder: records.Folder,
    tool: str,
    conversion: atc.Conversion,
    work: pathlib.Path,
    chunk: Optional[int] = None,
    device_id: int = 0,
) -> Tuple[Scored, List[float]]:
    """Returns the sums over the split and the execution times of batches in ms.

    chunk: batches on the disk at a time; None: what CHUNK_BYTES hold.
    """
    input_dtype = 'uint8' if conversion.aipp else 'float32'
    description = dict(bins.describe(reference, folder, input_dtype), checkpoint=reference.checksum)
    total, each = bins.count(reference, folder), bins.batch_bytes(description)
    size = chunk or max(1, min(total, int(CHUNK_BYTES // each)))
    if size < total:
        print(
            '%s; %d batches at a time, %.2f GB, are written, run, scored and deleted%s'
            % (
                bins.size_text(description, total),
                size,
                size * each / 1e9,
                '' if chunk else ' (--chunk N takes another number)',
            )
        )
    keep = not chunk and size == total
    job = Job(reference, folder, tool, conversion.output, description, work, device_id, keep)
    scored, milliseconds = Scored(), []
    source = Source(job)
    for start in range(0, total, size):
        part, times = _chunk(job, source, start, min(size, total - start))
        scored, milliseconds = scored.add(part), milliseconds + times
    return scored, milliseconds


class Source:
    """The checkpoint's own network on the split, restarted only where chunks were skipped."""

    def __init__(self, job: Job):
        self._job, self._batches, self._position = job, iter(()), None

    def take(self, start: int, count: int) -> Iterator[Batch]:
        if self._position != start:
            self._batches = self._job.reference.batches(self._job.folder, start)
        self._position = start + count
        return itertools.islice(self._batches, count)


def _chunk(job: Job, source: Source, start: int, count: int) -> Tuple[Scored, List[float]]:
    """Writes, runs and scores some batches, as far as an earlier run did not."""
    place = job.work / ('%06d-%06d' % (start, start + count))
    description = dict(job.description, first_batch=start, batches=count)
    key = manifest.digest([manifest.sha256(job.om), description, job.device_id])
    done = _load(place / 'score.json', key)
    if done is None:
        batches = bins.existing(place / 'bins', description)
        if batches:
            print('%s: taken from an earlier run' % (place / 'bins'))
        else:
            batches = bins.write(place / 'bins', description, source.take(start, count), count)
        results = msame.run(job.tool, job.om, batches, place / 'results', job.device_id)
        done = score_files(job.reference, batches, results.files), results.milliseconds
        _save(place / 'score.json', key, *done)
    else:
        print(
            '%s: taken from an earlier run; delete it to run the model again'
            % (place / 'score.json')
        )
    if not job.keep:
        for name in ('bins', 'results'):
            shutil.rmtree(str(place / name), ignore_errors=True)
    return done


def _save(path: pathlib.Path, key: str, scored: Scored, milliseconds: List[float]) -> None:
    def plain(counts):
        return {name: np.asarray(value).tolist() for name, value in counts.items()}

    write_json(
        path,
        dict(
            key=key,
            online=plain(scored.online),
            offline=plain(scored.offline),
            agreement=list(scored.agreement),
            milliseconds=milliseconds,
        ),
    )


def _load(path: pathlib.Path, key: str) -> Optional[Tuple[Scored, List[float]]]:
    """The sums of a chunk that an earlier run scored; None if there are none for this key."""
    try:
        saved: Dict[str, Any] = json.loads(path.read_text())
        if saved['key'] != key:
            return None
        agreed = agreement.Agreement(*saved['agreement'])
        return Scored(saved['online'], saved['offline'], agreed), saved['milliseconds']
    except (OSError, ValueError, KeyError, TypeError):
        return None
