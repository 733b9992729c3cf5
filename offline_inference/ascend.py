"""Frozen graph -> .om -> batches on disk -> msame or ais_bench -> figures, for
offline_inference.run.

A step whose result is current by its manifest is not repeated. Writes OUT/MODEL.om,
OUT/MODEL.aipp.cfg and OUT/TOOL/ with a folder for each chunk of batches: bins/, results/ and
score.json. If there are several chunks, or --chunk is given, the first two are deleted once the
third is written.
"""

import itertools
import pathlib
import shutil
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from common.files import checksum, read_json, write_json
from offline_inference import atc, bins, manifest, msame
from offline_inference.agreement import Agreement
from offline_inference.reference import Batch, Reference
from offline_inference.score import ScoreSums, score_files

CHUNK_BYTES = 4e9  # on the disk; 500 street scenes of 1024x2048 and their logits take 170 GB


class Chunks:
    """A converted model, and the split that a tool runs it on, some batches at a time.

    work: where each chunk has its folder.
    """

    def __init__(
        self,
        reference: Reference,
        tool: str,
        conversion: atc.Conversion,
        work: pathlib.Path,
        device_id: int = 0,
    ):
        self._reference, self._tool, self._work = reference, tool, work
        self._om, self._device_id = conversion.output, device_id
        self._description = dict(
            bins.describe(reference, 'uint8' if conversion.aipp else 'float32'),
            checkpoint=reference.checksum,
        )
        self._batches: Iterator[Batch] = iter(())
        self._position = -1  # of the next of these

    def run(self, chunk: Optional[int] = None) -> Tuple[ScoreSums, List[float]]:
        """Returns the sums over the split and the execution times of batches in ms.

        chunk: batches on the disk at a time; None: what CHUNK_BYTES hold.
        """
        total = bins.count(self._reference)
        each = bins.batch_bytes(self._description)
        size = chunk or max(1, min(total, int(CHUNK_BYTES // each)))
        if size < total:
            print(
                '%s; %d batches at a time, %.2f GB, are written, run, scored and deleted%s'
                % (
                    bins.size_text(self._description, total),
                    size,
                    size * each / 1e9,
                    '' if chunk else ' (--chunk N takes another number)',
                )
            )
        scored, milliseconds = ScoreSums(), []
        for start in range(0, total, size):
            folder = self._work / ('%06d-%06d' % (start, min(start + size, total)))
            part, times = self._run_chunk(folder, start, min(size, total - start))
            scored, milliseconds = scored.add(part), milliseconds + times
            if chunk or size < total:
                for name in ('bins', 'results'):
                    shutil.rmtree(folder / name, ignore_errors=True)
        return scored, milliseconds

    def _run_chunk(
        self, folder: pathlib.Path, start: int, count: int
    ) -> Tuple[ScoreSums, List[float]]:
        """Writes, runs and scores some batches, as far as an earlier run did not."""
        description = dict(self._description, first_batch=start, batches=count)
        sources = dict(om=checksum(self._om), batches=description, device_id=self._device_id)
        path = folder / 'score.json'
        if manifest.is_current(path, **sources):
            print('%s: taken from an earlier run; delete it to run the model again' % path)
            return _load(path)
        batches = bins.existing(folder / 'bins', description)
        if batches:
            print('%s: taken from an earlier run' % (folder / 'bins'))
        else:
            batches = bins.write(folder / 'bins', description, self._take(start, count), count)
        results = msame.run(self._tool, self._om, batches, folder / 'results', self._device_id)
        scored = score_files(self._reference, batches, results.files)
        _save(path, scored, results.milliseconds)
        manifest.record(path, **sources)
        return scored, results.milliseconds

    def _take(self, start: int, count: int) -> Iterator[Batch]:
        """Returns batches with the checkpoint's logits, whose network is restarted after a gap."""
        if self._position != start:
            self._batches = self._reference.batches(start)
        self._position = start + count
        return itertools.islice(self._batches, count)


def _save(path: pathlib.Path, scored: ScoreSums, milliseconds: List[float]) -> None:
    content: Dict[str, Any] = dict(agreement=scored.agreement, milliseconds=milliseconds)
    for network in ('online', 'offline'):
        counts = getattr(scored, network).items()
        content[network] = {name: np.asarray(value).tolist() for name, value in counts}
    write_json(path, content)


def _load(path: pathlib.Path) -> Tuple[ScoreSums, List[float]]:
    saved = read_json(path)
    scored = ScoreSums(saved['online'], saved['offline'], Agreement(*saved['agreement']))
    return scored, saved['milliseconds']
