"""Results of msame or ais_bench -> figures, beside the checkpoint's where its logits are known.

    python -m offline_inference.score --model wideresnet --config C --bins BINS --results RESULTS

RESULTS is what offline_inference.msame wrote, or a folder that msame or ais_bench, started by hand,
wrote for BINS/batches.
"""

import json
import pathlib
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from common.errors import UserError, entry_point
from offline_inference import cli


def _parse(argv: cli.Argv = None) -> cli.Parsed:
    parser = cli.Parser('score', __doc__)
    parser.add_argument(
        '--bins', required=True, help='the folder that offline_inference.bins wrote'
    )
    parser.add_argument('--results', required=True, help='the folder of the results')
    return parser.parse_model(argv)


if __name__ == '__main__':
    entry_point(_parse)()  # before the imports below, which take seconds

import numpy as np

from common.metrics import scores
from offline_inference import manifest, msame
from offline_inference.agreement import Agreement, compare_logits
from offline_inference.bins import Bins
from offline_inference.reference import Reference


class ScoreSums(NamedTuple):
    """Sums over some batches; `add` joins those of several."""

    online: scores.Counts = {}  # of the checkpoint; {} without its logits
    offline: scores.Counts = {}
    agreement: Agreement = Agreement()

    def add(self, other: 'ScoreSums') -> 'ScoreSums':
        return ScoreSums(
            scores.add(self.online, other.online),
            scores.add(self.offline, other.offline),
            self.agreement.add(other.agreement),
        )


def score_batch(
    reference: Reference,
    features: Dict[str, np.ndarray],
    online: Optional[np.ndarray],
    offline: np.ndarray,
) -> ScoreSums:
    """Scores an engine's logits, and the checkpoint's if there are any, on one batch. UserError if
    they are not finite.
    """
    counts = reference.counts(online, features) if online is not None else {}
    try:
        offline_counts = reference.counts(offline, features)
    except UserError as error:
        raise UserError('offline model: %s' % error)
    if online is None:
        return ScoreSums(counts, offline_counts)
    return ScoreSums(counts, offline_counts, compare_logits(online, offline, features['mask']))


def score_files(reference: Reference, batches: Bins, files: Sequence[pathlib.Path]) -> ScoreSums:
    """Scores files of logits, one for each batch in order."""
    total = ScoreSums()
    size = batches.description['input_shape'][0]
    first = batches.description.get('first_batch', 0)
    for number, (path, rows) in enumerate(zip(files, batches.rows()), first):
        offline = read_logits(path, batches.description['logits_shape'])
        ids = np.arange(number * size, (number + 1) * size)
        features = {'label': rows['labels'], 'mask': rows['mask'], 'id': ids}
        total = total.add(score_batch(reference, features, rows.get('logits'), offline))
    return total


def read_logits(path: pathlib.Path, shape: List[int]) -> np.ndarray:
    """Returns the logits in a file, float32: of text, or of float16 or float32 by its size."""
    values = int(np.prod(shape))
    if path.suffix == '.txt':
        try:
            logits = np.array(path.read_text().split(), np.float32)
        except ValueError:
            raise UserError('%s holds text that is not a number; run the model again' % path)
        if logits.size != values:
            raise UserError(
                '%s holds %d numbers, logits %s are %d; was the model run on other batches?'
                % (path, logits.size, shape, values)
            )
        return logits.reshape(shape)
    dtype = {2 * values: np.float16, 4 * values: np.float32}.get(path.stat().st_size)
    if dtype is None:
        raise UserError(
            '%s has %d bytes; %s logits are %d in float32, %d in float16; was the model run on'
            ' other batches?' % (path, path.stat().st_size, shape, 4 * values, 2 * values)
        )
    return np.fromfile(str(path), dtype).astype(np.float32, copy=False).reshape(shape)


def find_results(folder: pathlib.Path, batches: Bins) -> List[pathlib.Path]:
    """Returns the file of logits of each batch, in a folder of results or its newest dated folder.
    UserError if results and batches do not belong together.
    """
    sources = manifest.read(folder).get('sources')
    sources = sources if isinstance(sources, dict) else {}
    manifest.require_same('--results %s' % folder, sources, {'bins': batches.checksum})
    for stamped in [folder] + msame.stamped(folder)[::-1]:
        paths = [path for path in stamped.glob('*_0.*') if path.suffix in ('.bin', '.txt')]
        if paths:
            break
    else:
        raise UserError(
            '--results %s: holds no results of msame or ais_bench (NAME_output_0.bin, NAME_0.bin);'
            ' run the model on %s' % (folder, batches.path)
        )
    by_batch = {re.sub(r'(_output)?_0$', '', path.stem): path for path in paths}
    stems = [pathlib.Path(name).stem for name in batches.names]
    if sorted(by_batch) != stems or len(paths) != len(stems):
        raise UserError(
            '--results %s: holds %d files of results, such as %s, not one for each of the %d'
            ' batches; run the model on %s'
            % (folder, len(paths), min(path.name for path in paths), len(stems), batches.path)
        )
    return [by_batch[stem] for stem in stems]


def published_line(images: int, figures: Dict[str, Any]) -> str:
    """Returns the line that the published ports print of an offline run; '' without figures."""
    start = '>>>>>  共 %d 测试样本    ' % images
    if 'top1' in figures:
        return start + 'accuracy:%.6f' % figures['top1']
    if 'miou' in figures:
        names = ('accuracy', 'mean_accuracy', 'miou', 'frequency_weighted_iou')
        values = ' '.join(str(figures[name]) for name in names)
        return start + 'MIoU: %.6f %s' % (figures['miou'], values)
    return ''


@entry_point
def main(argv: cli.Argv = None) -> None:
    args, cfg = _parse(argv)
    reference, batches = Reference(cli.load(cfg), cfg), Bins.open(pathlib.Path(args.bins))
    manifest.require_same('--bins ' + args.bins, batches.description, {'model': reference.name})
    files = find_results(pathlib.Path(args.results), batches)
    scored = score_files(reference, batches, files)
    figures = reference.figures(scored.offline)
    line = published_line(figures['images'], figures)
    if scored.online:
        figures = dict(
            figures,
            online=reference.figures(scored.online),
            equal_predictions=scored.agreement.share,
            max_abs_logit_difference=scored.agreement.largest,
        )
    print(json.dumps(figures, indent=2))
    print(line)


if __name__ == '__main__':
    main()
