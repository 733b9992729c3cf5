"""The evaluation split as files for msame and ais_bench: one .bin for each batch, and beside them
what scoring needs.

    python -m offline_inference.bins --model wideresnet --config C --data_path D --output BINS
    [--input_dtype uint8]

Every other flag is one of the model's configuration (--batch_size 1 --image_num 1000).
  BINS/batches/000000.bin ...   a full batch each, [N,H,W,C], float32 normalised or uint8; the last
                                one is padded
  BINS/labels.npy, mask.npy     of every row of every batch; the mask of padding is 0
  BINS/logits.npy               the checkpoint's own, if offline_inference.run wrote the folder
  BINS/manifest.json
"""

import contextlib
import pathlib
import shutil
from typing import Any, BinaryIO, Dict, Iterable, Iterator, Optional

from common.errors import UserError, entry_point
from offline_inference import cli


def _parse(argv: cli.Argv = None) -> cli.Parsed:
    parser = cli.Parser('bins', __doc__)
    parser.add_argument(
        '--output', required=True, help='the folder to write, such as runs/a/offline/bins'
    )
    parser.add_input_dtype('uint8: for a model with AIPP; a quarter of the size')
    return parser.parse_model(argv)


if __name__ == '__main__':
    entry_point(_parse)()  # before the imports below, which take seconds

import numpy as np
import tensorflow as tf
import tqdm

from common.files import atomic
from offline_inference import manifest
from offline_inference.reference import Batch, Reference

RESERVE = 1e8  # bytes that stay free on the disk


def describe(reference: Reference, input_dtype: str) -> Dict[str, Any]:
    """Returns what the content of the files and their size depend on."""
    with tf.Graph().as_default():
        dataset = reference.dataset()
        types, shapes = tf.data.get_output_types(dataset), tf.data.get_output_shapes(dataset)
    return manifest.as_json(
        dict(
            model=reference.name,
            records=str(reference.split.path.resolve()),
            images=reference.split.count,
            content=reference.split.content(),
            normalization=reference.normalization,
            input_shape=reference.input_shape,
            input_dtype=input_dtype,
            logits_shape=reference.logits_shape(),
            label_bytes=types['label'].size * shapes['label'].num_elements(),
        )
    )


def count(reference: Reference) -> int:
    """Returns the number of batches of the split."""
    return -(-reference.split.count // reference.cfg.batch_size)


def batch_bytes(description: Dict[str, Any]) -> int:
    """Returns what a batch takes on the disk: images, labels, mask, float32 results, and the logits
    of a checkpoint.
    """
    shape = description['input_shape']
    images = int(np.prod(shape)) * np.dtype(description['input_dtype']).itemsize
    logits = 4 * int(np.prod(description['logits_shape']))
    labels_and_mask = description['label_bytes'] + 4 * shape[0]
    return images + labels_and_mask + logits * (2 if 'checkpoint' in description else 1)


def size_text(description: Dict[str, Any], total: int) -> str:
    """Says what `total` batches take on the disk."""
    size, height, width, channels = description['input_shape']
    return '%d %s images of %dx%dx%d and their results take %.2f GB' % (
        total * size,
        description['input_dtype'],
        height,
        width,
        channels,
        total * batch_bytes(description) / 1e9,
    )


class Bins:
    """A folder that `write` finished: path, description, names (the batches' files in order) and
    checksum (of everything).
    """

    def __init__(self, path: pathlib.Path, content: Dict[str, Any]):
        self.path, self.description = path, content['sources']
        self.checksum = content['checksum']
        files = [pathlib.Path(name) for name in content['files']]
        self.names = sorted(file.name for file in files if file.suffix == '.bin')
        self._arrays = [file.stem for file in files if file.suffix == '.npy']

    @classmethod
    def open(cls, path: pathlib.Path) -> 'Bins':
        """Raises UserError if the folder is incomplete, or a file is not the one written there."""
        content = manifest.sealed(path)
        if content is None:
            raise UserError(
                '--bins %s: holds no batches of this program, or %s is damaged;'
                ' python -m offline_inference.bins makes it' % (path, manifest.NAME)
            )
        bins = cls(path, content)
        for file in sorted((path / 'batches').iterdir()):
            if file.name not in bins.names:
                raise UserError('--bins %s: %s is not one of its batches; remove it' % (path, file))
        return bins

    def rows(self) -> Iterator[Dict[str, np.ndarray]]:
        """Yields 'labels', 'mask' and, if there are any, 'logits' of each batch."""
        size = self.description['input_shape'][0]
        for start in range(0, size * len(self.names), size):
            # Mapped anew each time: pages that were read stay in memory with their mapping.
            maps = {key: np.load(self.path / (key + '.npy'), mmap_mode='r') for key in self._arrays}
            yield {key: np.array(values[start : start + size]) for key, values in maps.items()}


def existing(output: pathlib.Path, description: Dict[str, Any]) -> Optional[Bins]:
    """Returns the folder if it is undamaged and has this description, else None."""
    try:
        bins = Bins.open(output)
    except UserError:
        return None
    return bins if bins.description == description else None


def write(
    output: pathlib.Path, description: Dict[str, Any], batches: Iterable[Batch], total: int
) -> Bins:
    """Writes `total` batches and what is known of them in place of what an earlier run left.
    UserError, before anything is written, if they do not fit or `output` holds something else.
    """
    manifest.remove_earlier(output)
    with atomic(output) as folder:
        _check_space(output, description, total)
        (folder / 'batches').mkdir(parents=True)
        _write_batches(folder, description['input_dtype'], batches, total)
        manifest.seal(folder, description)
    return Bins(output, manifest.read(output))


def _write_batches(
    folder: pathlib.Path, input_dtype: str, batches: Iterable[Batch], total: int
) -> None:
    bar = tqdm.tqdm(
        batches, total=total, desc='writing', unit=' batches', disable=None, leave=False
    )
    count, files = 0, {}
    with contextlib.ExitStack() as stack:
        for batch in bar:
            name = '%06d.bin' % count  # in the order of numbers and of letters
            (folder / 'batches' / name).write_bytes(batch.input(input_dtype).tobytes())
            count += 1
            rows = {'labels': batch.features['label'], 'mask': batch.features['mask']}
            if batch.logits is not None:
                rows['logits'] = batch.logits
            for key, value in rows.items():
                if key not in files:
                    files[key] = stack.enter_context(open(folder / (key + '.npy'), 'wb'))
                    _header(files[key], value, total)
                files[key].write(np.ascontiguousarray(value).data)
    if count != total:
        raise ValueError('expected %d batches, got %d' % (total, count))


def _header(file: BinaryIO, batch: np.ndarray, total: int) -> None:
    """Begins a .npy file of `total` such batches; open_memmap would keep all of it in memory."""
    header = {
        'descr': np.lib.format.dtype_to_descr(batch.dtype),
        'fortran_order': False,
        'shape': (total * len(batch),) + batch.shape[1:],
    }
    np.lib.format.write_array_header_1_0(file, header)


def _check_space(output: pathlib.Path, description: Dict[str, Any], total: int) -> None:
    """Raises UserError if the batches and their results do not fit on the disk."""
    each, folder = batch_bytes(description), output.parent
    free = shutil.disk_usage(folder).free - RESERVE
    if total * each <= free:
        return
    fixes = []
    as_bytes = total * batch_bytes(dict(description, input_dtype='uint8'))
    if as_bytes < total * each and as_bytes <= free:
        fixes.append('--input_dtype uint8 (%.2f GB)' % (as_bytes / 1e9))
    if free >= each:
        fixes.append(
            '--chunk %d of offline_inference.run (writes, runs and deletes that many batches at a'
            ' time)' % (free // each)
        )
    raise UserError(
        '%s, %s has %.2f GB free; give %s'
        % (
            size_text(description, total),
            folder,
            (free + RESERVE) / 1e9,
            ', or '.join([*fixes, 'another --output']),
        )
    )


@entry_point
def main(argv: cli.Argv = None) -> None:
    args, cfg = _parse(argv)
    reference, output = Reference(cli.load(cfg), cfg), pathlib.Path(args.output)
    description = describe(reference, args.input_dtype)
    total = count(reference)
    if existing(output, description):
        print('%s: already complete' % output)
        return
    print(size_text(description, total))
    write(output, description, reference.batches(), total)
    images = reference.split.count
    print('%s: %d images in %d batches of %d' % (output, images, total, cfg.batch_size))


if __name__ == '__main__':
    main()
