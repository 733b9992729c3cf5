"""The evaluation split as files that msame and ais_bench read: one .bin a batch, and beside them
what is needed to score the results.

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
import itertools
import pathlib
import shutil
import sys
import zlib
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, Optional, Sequence

import numpy as np
import tensorflow as tf
import tqdm

from common.data import records
from common.errors import UserError, entry_point
from common.task import Task
from offline_inference import freeze, manifest


def count(task: Task, folder: records.Folder) -> int:
    """Batches that the split has; the last one may hold padding."""
    return -(-folder.count // task.cfg.batch_size)


def logits_shape(task: Task) -> List[int]:
    """[N,...,classes]: what the model makes of one batch."""
    with tf.Graph().as_default():
        return task.network(
            tf.placeholder(tf.float32, [task.cfg.batch_size] + list(task.input_shape)), False
        ).shape.as_list()


def _label_bytes(task: Task, folder: records.Folder) -> int:
    """Size of the labels of one batch."""
    with tf.Graph().as_default():
        dataset = task.dataset(folder, task.cfg.batch_size, False)
        types, shapes = tf.data.get_output_types(dataset), tf.data.get_output_shapes(dataset)
    return types['label'].size * shapes['label'].num_elements()


def batch_bytes(made_of: Dict[str, Any]) -> int:
    """What one batch takes on the disk: images, labels, mask, the checkpoint's logits if there is
    one, and the results, float32.
    """
    images = int(np.prod(made_of['input_shape'])) * np.dtype(made_of['input_dtype']).itemsize
    logits = 4 * int(np.prod(made_of['logits_shape']))
    return (
        images
        + made_of['label_bytes']
        + 4 * made_of['input_shape'][0]
        + logits * (2 if 'checkpoint' in made_of else 1)
    )


def size_text(made_of: Dict[str, Any], total: int) -> str:
    """What `total` batches take on the disk, in words."""
    size, height, width, channels = made_of['input_shape']
    return '%d %s images of %dx%dx%d and their results take %.2f GB' % (
        total * size,
        made_of['input_dtype'],
        height,
        width,
        channels,
        total * batch_bytes(made_of) / 1e9,
    )


def identity(task: Task, folder: records.Folder, input_dtype: str) -> Dict[str, Any]:
    """What the content of the files depends on, but for the part of the split that is taken and the
    checkpoint, if there is one.
    """
    data = manifest.digest(
        [(path.name, path.stat().st_size) for path in folder.files]
        + [folder.count, task.cfg.skip_corrupt]
    )
    return manifest.plain(
        dict(
            model=task.name,
            records=str(folder.path.resolve()),
            images=folder.count,
            data=data,
            normalization=task.affine_normalization(),
            input_shape=[task.cfg.batch_size] + list(task.input_shape),
            input_dtype=input_dtype,
            logits_shape=logits_shape(task),
            label_bytes=_label_bytes(task, folder),
        )
    )


def is_written(output: pathlib.Path, wanted: Dict[str, Any]) -> bool:
    """True if the folder holds all of this already."""
    found = manifest.read(output)
    return (
        found.get('complete') is True
        and found.get('made_of') == wanted
        and not _wrong_files(output, found)
    )


def write(
    output: pathlib.Path, made_of: Dict[str, Any], batches: Iterable[freeze.Batch], total: int
) -> None:
    """Writes `total` batches and what is known of them. Whatever an interrupted run left there is
    deleted first.

    Raises UserError, before anything is written, if the disk is too small or `output` holds
    something else.
    """
    if output.exists():
        if not output.is_dir() or any(output.iterdir()) and 'complete' not in manifest.read(output):
            raise UserError('--output %s holds other things; give a new folder' % output)
        shutil.rmtree(str(output))
    freeze.make_folder(output.parent)
    _check_space(output.parent, made_of, total)
    (output / 'batches').mkdir(parents=True)
    manifest.write(output, {'complete': False})
    size, dtype, known, files = made_of['input_shape'][0], made_of['input_dtype'], {}, {}
    with contextlib.ExitStack() as stack:
        for number, batch in enumerate(
            tqdm.tqdm(
                itertools.islice(batches, total),
                total=total,
                desc='writing',
                unit=' batches',
                disable=None,
                leave=False,
            )
        ):
            data = np.ascontiguousarray(batch.given(dtype), dtype).tobytes()
            name = '%06d.bin' % number  # in the order of numbers and of letters
            (output / 'batches' / name).write_bytes(data)
            files[name] = zlib.crc32(data)
            for key, value in dict(
                labels=batch.features['label'], mask=batch.features['mask'], logits=batch.logits
            ).items():
                if value is not None:
                    if key not in known:
                        known[key] = stack.enter_context(open(str(output / (key + '.npy')), 'wb'))
                        _header(known[key], value.dtype, (total * size,) + value.shape[1:])
                    known[key].write(np.ascontiguousarray(value).data)
    if len(files) != total:
        raise ValueError('%d batches were announced, %d came' % (total, len(files)))
    content = dict(
        complete=True,
        made_of=made_of,
        bytes=len(data),
        crc32=files,
        known={key: manifest.sha256(output / (key + '.npy')) for key in known},
    )
    manifest.write(output, dict(content, id=manifest.digest(content)))


def read(folder: pathlib.Path) -> Dict[str, Any]:
    """The manifest of a folder that `write` finished; UserError if it is none or not complete."""
    found = manifest.read(folder)
    if not found.get('complete'):
        raise UserError(
            '--bins %s: %s; python -m offline_inference.bins makes it'
            % (
                folder,
                (
                    'it was not written to its end'
                    if 'complete' in found
                    else 'holds no batches of this program'
                ),
            )
        )
    wrong = _wrong_files(folder, found)
    if wrong:
        raise UserError(
            '--bins %s: batches/%s is missing, too many or has another size than %d bytes; write'
            ' the folder anew' % (folder, wrong[0], found['bytes'])
        )
    return found


def _header(file: BinaryIO, dtype: np.dtype, shape: Sequence[int]) -> None:
    """Begins a .npy file whose values follow; open_memmap would hold all that was written in
    memory.
    """
    np.lib.format.write_array_header_1_0(
        file,
        {
            'descr': np.lib.format.dtype_to_descr(dtype),
            'fortran_order': False,
            'shape': tuple(shape),
        },
    )


def known(folder: pathlib.Path, found: Dict[str, Any]) -> Iterator[Dict[str, np.ndarray]]:
    """'labels', 'mask' and, if there are any, 'logits' of each batch in turn."""
    for key, checksum in found['known'].items():
        path = folder / (key + '.npy')
        if not path.is_file() or manifest.sha256(path) != checksum:
            raise UserError(
                '--bins %s: %s is missing or does not belong to the batches; write the folder anew'
                % (folder, path.name)
            )
    size = found['made_of']['input_shape'][0]
    for start in range(
        0, size * len(found['crc32']), size
    ):  # mapped anew each time: what was read of a mapping stays in memory with it
        yield {
            key: np.array(
                np.load(str(folder / (key + '.npy')), mmap_mode='r')[start : start + size]
            )
            for key in found['known']
        }


def _wrong_files(folder: pathlib.Path, found: Dict[str, Any]) -> List[str]:
    there = {path.name: path.stat().st_size for path in (folder / 'batches').glob('*')}
    return sorted(
        name
        for name in set(there) | set(found['crc32'])
        if there.get(name) != found['bytes'] or name not in found['crc32']
    )


def _check_space(folder: pathlib.Path, made_of: Dict[str, Any], total: int) -> None:
    """UserError if the batches and their results would not leave a tenth of a GB on the disk."""
    needed, free = total * batch_bytes(made_of), shutil.disk_usage(str(folder)).free
    if needed + 1e8 > free:
        as_bytes, fits = (
            total * batch_bytes(dict(made_of, input_dtype='uint8')),
            int((free - 1e8) // batch_bytes(made_of)),
        )
        cures = ['--input_dtype uint8 (%.2f GB)' % (as_bytes / 1e9)] * (
            as_bytes < needed and as_bytes + 1e8 <= free
        )
        cures += [
            '--chunk %d of offline_inference.run (writes, runs and deletes so many batches at a'
            ' time)' % fits
        ] * (fits > 0)
        raise UserError(
            '%s, %s has %.2f GB free; give %s'
            % (
                size_text(made_of, total),
                folder,
                free / 1e9,
                ', or '.join(cures + ['another --output']),
            )
        )


def _batches(task: Task, folder: records.Folder) -> Iterator[freeze.Batch]:
    """The split without a checkpoint's logits."""
    with tf.Graph().as_default():
        iterator = tf.data.make_initializable_iterator(
            task.dataset(folder, task.cfg.batch_size, False)
        )
        features = iterator.get_next()
        images = task.normalize(tf.cast(features['image'], tf.float32))
        session = tf.Session()
    with contextlib.closing(session):
        session.run(iterator.initializer)
        while True:
            try:
                yield freeze.Batch(*session.run([features, images]), None)
            except tf.errors.OutOfRangeError:
                return
            except tf.errors.OpError as error:
                raise records.user_error(error) or error


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = freeze.Parser('python -m offline_inference.bins', __doc__)
    parser.add_argument(
        '--output', required=True, help='the folder to write, such as runs/a/offline/bins'
    )
    parser.add_argument(
        '--input_dtype',
        default='float32',
        choices=['float32', 'uint8'],
        help='uint8: for a model with AIPP; a quarter of the size',
    )
    args, task, _ = parser.parse(sys.argv[1:] if argv is None else argv)
    output, folder = pathlib.Path(args.output), task.folder(task.eval_split)
    made_of, total = identity(task, folder, args.input_dtype), count(task, folder)
    if is_written(output, made_of):
        print('%s: complete already' % output)
        return
    print(size_text(made_of, total))
    write(output, made_of, _batches(task, folder), total)
    print(
        '%s: %d images in %d batches of %d, %.2f MB'
        % (
            output,
            folder.count,
            total,
            task.cfg.batch_size,
            total * manifest.read(output)['bytes'] / 1e6,
        )
    )


if __name__ == '__main__':
    main()
