"""Writes a checkpoint as a frozen graph (.pb): inference alone, weights as constants, proved equal.

    python -m offline_inference.freeze --model wideresnet --config C --model_path CKPT --batch_size
    N --output F.pb [--input_dtype uint8]

Every other flag is one of the model's configuration (--depth 16). Without --batch_size the batch is
evaluation's. With --data_path the proof runs on the first records of the evaluation split, else on
random images.
"""

import pathlib
from typing import Iterable, NamedTuple, Optional, Tuple

from common.errors import UserError, entry_point
from offline_inference import cli


def _parse(argv: cli.Argv = None) -> cli.Parsed:
    parser = cli.Parser('freeze', __doc__)
    parser.add_argument(
        '--output', required=True, help='the file to write, such as runs/a/wideresnet.pb'
    )
    parser.add_input_dtype('uint8: the graph normalises (for ATC: float32)')
    args, cfg = parser.parse_model(argv)
    cfg.require_model_path()
    return args, cfg


if __name__ == '__main__':
    entry_point(_parse)()  # before the imports below, which take seconds

import numpy as np
import tensorflow as tf

from common.files import atomic
from common.metrics import scores
from offline_inference import float64, manifest, pb
from offline_inference.agreement import relative_difference
from offline_inference.reference import Batch, Reference

TOLERANCE = 1e-4  # of an image's largest logit; rounding gives 1e-7 to 1e-5
PROOF_IMAGES = 16
PROOF_PIXELS = 1 << 22  # of large images fewer: 2 of 1024x2048, which take a minute or two


def freeze(
    reference: Reference, output: pathlib.Path, input_dtype: str = 'float32', real: bool = False
) -> str:
    """Writes the frozen graph for one batch size; returns a summary to print. UserError, and
    nothing is written, if it does not compute what the checkpoint does.

    Its only input is `inputx`, [N,H,W,C]: float32, normalised, or uint8, which the graph
    normalises. Its only output is the logits. Weights are averaged ones where the checkpoint has
    them. real: the proof takes records, else random images.
    """
    source = 'images of %s' % reference.split.path if real else 'random images'
    with atomic(output) as temporary:
        graph_def = constant_graph(reference, input_dtype)
        temporary.write_bytes(graph_def.SerializeToString())
        proof = prove(reference, temporary, input_dtype, real)
    manifest.record(output, **reference.description(input_dtype))
    return '%s\n%s: %d nodes, %.2f MB; %s on %d %s' % (
        reference.plan.report,
        output,
        len(graph_def.node),
        output.stat().st_size / 1e6,
        proof,
        proof.images,
        source,
    )


class Proof(NamedTuple):
    """What was found on some images; differences as in agreement.relative_difference."""

    images: int
    difference: float  # in float32
    exact_difference: Optional[float]  # in float64, if float32 could not decide

    def __str__(self) -> str:
        text = "largest difference from the checkpoint's logits %.1e" % self.difference
        if self.exact_difference is not None:
            text += ' in float32, whose rounding this network amplifies, and %.1e in float64'
            text %= self.exact_difference
        return text


def prove(
    reference: Reference, frozen: pathlib.Path, input_dtype: str = 'float32', real: bool = False
) -> Proof:
    """Runs a frozen graph beside the checkpoint's own network; in float64 if in float32 their
    logits differ by more than TOLERANCE. UserError if they do so in float64 too, or are not finite.
    """
    records = ' of %s' % reference.split.path if real else ''
    size, height, width, _ = reference.input_shape
    count = min(PROOF_IMAGES, max(1, PROOF_PIXELS // (height * width)))
    batches = list(reference.batches(count=-(-count // size), real=real))
    for number, logits in enumerate(row for batch in batches for row in batch.logits):
        image = '%s %d%s' % ('record' if real else 'random image', number, records)
        scores.require_finite(np.isfinite(logits).all(), image)
    infer = pb.engine(frozen, reference, input_dtype)
    difference = _difference((b, b.logits, infer(b.input(input_dtype))) for b in batches)
    exact = None
    if TOLERANCE < difference < np.inf:
        infer_checkpoint = float64.checkpoint_network(reference)
        infer_frozen = float64.frozen_graph(reference, pb.read(frozen))
        exact = _difference(
            (b, infer_checkpoint(b.images), infer_frozen(b.input(input_dtype))) for b in batches
        )
    images = int(sum(batch.features['mask'].sum() for batch in batches))
    worst = difference if exact is None else exact
    if not worst <= TOLERANCE:
        raise UserError(
            'the frozen graph is not the model: on %d images its logits differ from those of %s by'
            " %.3g of an image's largest logit%s, allowed is %g; nothing was written"
            % (
                images,
                reference.plan.checkpoint.path,
                worst,
                '' if exact is None else ' in float64',
                TOLERANCE,
            )
        )
    return Proof(images, difference, exact)


def _difference(logits: Iterable[Tuple[Batch, np.ndarray, np.ndarray]]) -> float:
    """Returns the largest difference of any image but padding; NaN if one is."""
    differences = []
    for batch, expected, actual in logits:
        real = batch.features['mask'] > 0
        differences.append(relative_difference(expected[real], actual[real]))
    return float(np.max(differences))


def constant_graph(reference: Reference, input_dtype: str) -> tf.GraphDef:
    """Returns the inference graph with weights as constants and without Identity nodes."""
    output = reference.output_name
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(input_dtype, reference.input_shape, pb.INPUT)
        if input_dtype == 'uint8':
            images = reference.normalize(images)
        logits = reference.network(images)
        if logits.op.name != output:
            raise ValueError(
                'the network of %s ends in %s, not in %s' % (reference.name, logits.op.name, output)
            )
        with reference.session() as session:
            constants = tf.graph_util.convert_variables_to_constants(
                session, graph.as_graph_def(), [output]
            )
    for node in constants.node:
        if pb.NOT_INFERENCE.match(node.op) or any(name[0] == '^' for name in node.input):
            raise ValueError(
                'the inference graph of %s is not static: %s (%s)'
                % (reference.name, node.name, node.op)
            )
    return tf.graph_util.remove_training_nodes(constants, [output])


@entry_point
def main(argv: cli.Argv = None) -> None:
    args, cfg = _parse(argv)
    reference = Reference.restored(cli.load(cfg), cfg)
    print(freeze(reference, pathlib.Path(args.output), args.input_dtype, real=args.has_data))


if __name__ == '__main__':
    main()
