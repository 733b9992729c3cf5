"""Results of msame or ais_bench -> figures: reads what the tool wrote, batch by batch, beside what
is known of the images.
"""

import pathlib
from typing import List, NamedTuple, Optional

import numpy as np

from common.errors import UserError
from common.metrics import scores
from common.task import Task
from offline_inference import bins, manifest, msame, score


class Scored(NamedTuple):
    """Sums over some batches; `add` joins those of several chunks."""

    online: scores.Counts = {}  # {} without the checkpoint's logits
    offline: scores.Counts = {}
    agreement: score.Agreement = score.Agreement()

    def add(self, other: 'Scored') -> 'Scored':
        return Scored(
            scores.add(self.online, other.online),
            scores.add(self.offline, other.offline),
            self.agreement.add(other.agreement),
        )


def logits(path: pathlib.Path, shape: List[int]) -> np.ndarray:
    """The values of one result file, [N,...,classes]: .txt, or float32 or float16 by the size of
    the file.
    """
    if path.suffix == '.txt':
        values = np.array(path.read_text().split(), np.float32)
    else:
        size = path.stat().st_size / int(np.prod(shape))
        if size not in (2, 4):
            raise UserError(
                '%s has %d bytes; %s logits are %d in float32, %d in float16'
                % (path, path.stat().st_size, shape, 4 * np.prod(shape), 2 * np.prod(shape))
            )
        values = np.fromfile(str(path), np.float16 if size == 2 else np.float32).astype(
            np.float32, copy=False
        )
    if values.size != int(np.prod(shape)):
        raise UserError('%s holds %d numbers, wanted are logits %s' % (path, values.size, shape))
    return values.reshape(shape)


def find(folder: pathlib.Path) -> List[pathlib.Path]:
    """The files of output 0 in a folder of results, in the natural order of their names; in the
    newest dated folder if it holds such.
    """
    for place in [folder] + msame.stamped(folder)[::-1]:
        files = sorted(
            (path for path in place.glob('*_0.*') if path.suffix in ('.bin', '.txt')),
            key=lambda path: msame.natural(path.name),
        )
        if files:
            return files
    raise UserError(
        '--results %s: holds no results of msame or ais_bench (NAME_output_0.bin, NAME_0.bin)'
        % folder
    )


def compare(
    task: Task,
    folder: pathlib.Path,
    results: pathlib.Path,
    files: Optional[List[pathlib.Path]] = None,
) -> Scored:
    """Scores the results on the batches of `folder`; files: in the batches' order, None finds them.

    Raises UserError if results and batches do not belong together.
    """
    found = bins.read(folder)
    facts = found['made_of']
    manifest.same('--bins %s' % folder, facts, {'model': task.name})
    made_of = manifest.read(results).get('made_of')
    if made_of:
        manifest.same('--results %s' % results, made_of, {'bins': found['id']})
    if files is None:
        files = find(results)
        stems = [pathlib.Path(name).stem for name in sorted(found['crc32'])]
        if len(files) != len(stems) or any(
            not path.name.startswith(stem + '_') for path, stem in zip(files, stems)
        ):
            raise UserError(
                '--results %s: %d files from %s to %s, wanted is one for each of the %d batches %s'
                ' to %s; run the model on %s'
                % (
                    results,
                    len(files),
                    files[0].name,
                    files[-1].name,
                    len(stems),
                    stems[0],
                    stems[-1],
                    folder,
                )
            )
    total = Scored()
    for path, rows in zip(files, bins.known(folder, found)):
        features = {'label': rows['labels'], 'mask': rows['mask']}
        offline = logits(path, facts['logits_shape'])
        part = Scored({}, task.offline_counts(offline, features))
        if 'logits' in rows:
            part = Scored(
                task.offline_counts(rows['logits'], features),
                part.offline,
                score.agreement(rows['logits'], offline, rows['mask']),
            )
        total = total.add(part)
    return total
