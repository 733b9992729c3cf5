"""Checkpoint -> frozen graph (.pb): the inference graph rebuilt from the configuration, folded, and
proved to be the same model.

    python -m offline_inference.freeze --model wideresnet --config C --model_path CKPT --batch_size
    N --output F.pb [--input_dtype uint8]

Every other flag is one of the model's configuration (--depth 16). Without --batch_size: as many
images as evaluation takes at a time. With --data_path the proof runs on the evaluation split's
first records, else on random images.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import sys
from typing import Any, Callable, Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from common import task as tasks
from common.checkpoints import checkpoint
from common.data import records
from common.errors import UserError, entry_point
from common.evaluation import evaluation
from common.files import atomic
from common.task import Task
from offline_inference import fold, manifest, pb, score

TOLERANCE = 1e-4  # of the largest logit of an image; rounding gives 1e-7 to 1e-5
PROOF_IMAGES = 16
PROOF_PIXELS = 1 << 22  # of large images fewer: 2 of 1024x2048, which take a minute or two
# What an engine for inference has no use for, or does not know.
_DYNAMIC = {
    'Variable',
    'VariableV2',
    'VarHandleOp',
    'ReadVariableOp',
    'Assign',
    'NoOp',
    'Assert',
    'PlaceholderWithDefault',
    'Switch',
    'Merge',
    'Enter',
    'Exit',
    'If',
    'StatelessIf',
    'While',
    'StatelessWhile',
    'PartitionedCall',
    'StatefulPartitionedCall',
}


class Batch(NamedTuple):
    """One batch of the checkpoint's own network."""

    features: Dict[
        str, np.ndarray
    ]  # as Task.parse makes them: image uint8 [B,H,W,C], mask [B], label
    images: np.ndarray  # what an offline model is given: normalised, float32 [B,H,W,C]
    logits: Optional[np.ndarray]  # float32 [B,...,classes]; None without a checkpoint

    def given(self, input_dtype: str) -> np.ndarray:
        """What a model with this type of input is given."""
        return self.features['image'] if input_dtype == 'uint8' else self.images


def online(
    task: Task, found: checkpoint.Match, dataset: Callable[[], tf.data.Dataset]
) -> Iterator[Batch]:
    """Runs a checkpoint through the network as evaluation does, not frozen, on every batch of
    dataset().
    """
    with tf.Graph().as_default():
        iterator = tf.data.make_initializable_iterator(dataset())
        features = iterator.get_next()
        images = task.normalize(tf.cast(features['image'], tf.float32))
        fetches = Batch(features, images, task.network(images, False))
        session = _restored(task, found)
    with contextlib.closing(session):
        session.run(iterator.initializer)
        while True:
            try:
                batch = session.run(fetches)
            except tf.errors.OutOfRangeError:
                return
            except tf.errors.OpError as error:
                raise records.user_error(error) or error
            yield batch


def freeze(
    task: Task,
    found: checkpoint.Match,
    output: pathlib.Path,
    folder: Optional[records.Folder] = None,
    input_dtype: str = 'float32',
) -> str:
    """Writes the frozen graph of a checkpoint for batches of --batch_size images; returns what to
    tell of it.

    Its only input is `inputx`, [N,H,W,C]: float32, normalised, or uint8, which the graph
    normalises. Its only output is task.output_name, the logits; weights are constants (averaged
    ones where the checkpoint has them).
    folder: records for the proof; None: random images.
    Raises UserError, and writes nothing, if the frozen graph does not compute what the checkpoint
    computes.
    """
    if output.is_dir():
        raise UserError(
            '--output %s is a folder; name the file, such as %s'
            % (output, output / (task.name + '.pb'))
        )
    make_folder(output.parent)
    result = fold.batch_norms(_constants(task, found, input_dtype), task.output_name)
    with atomic(output) as temporary:
        temporary.write_bytes(result.graph_def.SerializeToString())
        difference, images = prove(task, found, temporary, folder, input_dtype)
    manifest.record(output, **description(task, found, input_dtype))
    return (
        '%s\n%s: %d nodes, %.2f MB, %d of %d batch norms folded into convolutions; largest'
        " difference to the checkpoint's logits %.1e on %d %s"
        % (
            found.report,
            output,
            len(result.graph_def.node),
            os.path.getsize(str(output)) / 1e6,
            result.folded,
            result.folded + result.kept,
            difference,
            images,
            'images of %s' % folder.path if folder else 'random images',
        )
    )


def prove(
    task: Task,
    found: checkpoint.Match,
    frozen: pathlib.Path,
    folder: Optional[records.Folder] = None,
    input_dtype: str = 'float32',
) -> Tuple[float, int]:
    """Runs a frozen graph beside the checkpoint's own network; returns the largest relative
    difference and the number of images.

    Raises UserError if they differ by more than TOLERANCE (see score.relative_difference), or if
    anything is not finite.
    """
    size, (height, width, _) = task.cfg.batch_size, task.input_shape
    batches = -(-min(PROOF_IMAGES, max(1, PROOF_PIXELS // (height * width))) // size)

    def dataset():
        if folder:
            return task.dataset(folder, size, False).take(batches)
        noise = np.random.RandomState(0).randint(
            256, size=(batches * size,) + tuple(task.input_shape), dtype=np.uint8
        )
        features = {'image': noise, 'mask': np.ones(len(noise), np.float32)}
        return tf.data.Dataset.from_tensor_slices(features).batch(size, drop_remainder=True)

    infer = pb.load(frozen, task, input_dtype)
    differences, images = [], 0
    for batch in online(task, found, dataset):
        real = batch.features['mask'] > 0
        differences.append(
            score.relative_difference(batch.logits[real], infer(batch.given(input_dtype))[real])
        )
        images += int(real.sum())
    worst = float(np.max(differences))  # NaN if one is
    if not worst <= TOLERANCE:
        raise UserError(
            'the frozen graph is not the model: on %d images its logits differ from those of %s by'
            " %.3g of an image's largest logit, allowed is %g; nothing was written"
            % (images, found.checkpoint.path, worst, TOLERANCE)
        )
    return worst, images


def description(task: Task, found: checkpoint.Match, input_dtype: str) -> Dict[str, Any]:
    """What a frozen graph is made of, for the manifest."""
    return dict(
        model=task.name,
        checkpoint=checksum(found),
        configuration=configuration(task),
        normalization=task.affine_normalization(),
        input_shape=[task.cfg.batch_size] + list(task.input_shape),
        input_dtype=input_dtype,
    )


def checksum(found: checkpoint.Match) -> str:
    """Of a checkpoint: its index holds a checksum of every variable's value."""
    return manifest.sha256(pathlib.Path(found.checkpoint.path + '.index'))


def configuration(task: Task) -> str:
    """Checksum of the configuration without where things lie and how many are taken."""
    apart = (
        'data_path',
        'data_url',
        'train_url',
        'output_path',
        'model_path',
        'image_num',
        'do_train',
        'device',
    )
    return manifest.digest(
        {key: value for key, value in dataclasses.asdict(task.cfg).items() if key not in apart}
    )


def match(task: Task) -> checkpoint.Match:
    """How --model_path fits the network; UserError if it is not given or does not."""
    if not task.cfg.model_path:
        raise UserError(
            '--model_path is missing; give the checkpoint, such as runs/%s/%s'
            % (task.name, task.final_checkpoint)
        )
    return evaluation.match(task, task.cfg.model_path)


def make_folder(folder: pathlib.Path) -> None:
    """Makes the folder of --output; UserError if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            '--output: %s is no folder and cannot become one: %s' % (folder, error.strerror)
        )
    if not os.access(str(folder), os.W_OK):
        raise UserError('--output: %s may not be written to; give another place' % folder)


def _constants(task: Task, found: checkpoint.Match, input_dtype: str) -> tf.GraphDef:
    """The inference graph with its weights as constants."""
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(
            input_dtype, (task.cfg.batch_size,) + tuple(task.input_shape), pb.INPUT
        )
        if input_dtype == 'uint8':
            images = task.normalize(tf.cast(images, tf.float32))
        logits = task.network(images, False)
        if logits.op.name != task.output_name:
            raise ValueError(
                'the network of %s ends in %s, not in %s'
                % (task.name, logits.op.name, task.output_name)
            )
        with _restored(task, found) as session:
            constants = tf.graph_util.convert_variables_to_constants(
                session, graph.as_graph_def(), [task.output_name]
            )
    left = [
        '%s (%s)' % (node.name, node.op)
        for node in constants.node
        if node.op in _DYNAMIC or any(name[0] == '^' for name in node.input)
    ]
    if left:
        raise ValueError(
            'the inference graph of %s is not static: %s' % (task.name, ', '.join(left))
        )
    return tf.graph_util.remove_training_nodes(constants, [task.output_name])  # Identity


def _restored(task: Task, found: checkpoint.Match) -> tf.Session:
    """A session of the default graph whose variables hold the checkpoint's values."""
    names = {variable.op.name: variable for variable in tf.global_variables()}
    saver = tf.train.Saver({source: names[name] for name, source in found.names.items()})
    session = tf.Session(config=pb.session_config(task))
    saver.restore(session, found.checkpoint.path)
    return session


class Parser(argparse.ArgumentParser):
    """Flags of an offline command; what it does not know belongs to the model's configuration."""

    def __init__(self, prog: str, description: str):
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=(
                "Every field of the model's configuration is a flag as well: python"
                ' MODEL_tf/run_MODEL.py --help'
            ),
        )
        self.add_argument('--model', required=True, help='wideresnet, ...: a folder MODEL_tf')

    def parse(self, argv: Optional[Sequence[str]]) -> Tuple[argparse.Namespace, Task, bool]:
        """Returns the flags, the task that the others configure, and whether --data_path is among
        them.
        """
        args, rest = self.parse_known_args(argv)
        task = tasks.build(
            args.model, ['--do_train', 'False', '--device', 'cpu'] + rest
        )  # whatever the config.yaml of a run says
        flags = [word[2:].split('=')[0] for word in rest if word.startswith('--')]
        given = [task.aliases.get(flag, flag) for flag in flags]
        if 'batch_size' not in given:
            task.cfg.batch_size = task.eval_batch_size
        return args, task, 'data_path' in given

    def error(self, message: str) -> None:
        raise UserError('%s; --help lists the flags' % message)


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = Parser('python -m offline_inference.freeze', __doc__)
    parser.add_argument(
        '--output', required=True, help='the file to write, such as runs/a/wideresnet.pb'
    )
    parser.add_argument(
        '--input_dtype',
        default='float32',
        choices=['float32', 'uint8'],
        help='uint8: the graph normalises (for ATC: float32)',
    )
    args, task, has_data = parser.parse(sys.argv[1:] if argv is None else argv)
    print(
        freeze(
            task,
            match(task),
            pathlib.Path(args.output),
            task.folder(task.eval_split) if has_data else None,
            args.input_dtype,
        )
    )


if __name__ == '__main__':
    main()
