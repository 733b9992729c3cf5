"""What runs an exported model: ONNX Runtime, OpenVINO and TensorFlow in this process, msame and
ais_bench on an Ascend device.

An engine is an entry of ENGINES. It checks what it needs before anything else takes time, makes
what it runs from the frozen graph, and scores the whole split.
"""

import pathlib
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import tqdm

from common.ascend import npu_smi
from offline_inference import aipp, ascend, atc, msame, openvino_engine, pb, to_onnx
from offline_inference.reference import Infer, Reference
from offline_inference.score import ScoreSums, score_batch

LEAST_EQUAL = 0.999  # of the predictions
# float16 rounds by 1/2048 and bfloat16 by 1/256, which swaps classes of almost equal logits.
LEAST_EQUAL_HALF = 0.99


class Options(NamedTuple):
    """The settings of an engine; see the flags of offline_inference.run."""

    input_dtype: str  # of the images that the exported model takes: 'float32' or 'uint8'
    precision: Optional[str]  # OpenVINO's: 'f32' or 'bf16'; None: 'f32'
    soc_version: Optional[str]  # atc's, as the next; None: what npu-smi shows
    atc_precision_mode: Optional[str]  # None: the model's own
    chunk: Optional[int]  # batches that a device's tool has on the disk; None: what 4 GB hold
    device_id: int  # of the NPU


def suffix(input_dtype: str) -> str:
    """The suffix in the names of a model for such images and of its results."""
    return '_uint8' if input_dtype == 'uint8' else ''


class Outcome(NamedTuple):
    """The results of an engine on the split."""

    scored: ScoreSums
    milliseconds: List[float]  # of each batch
    files: List[pathlib.Path]  # the frozen graph and what was made of it
    software: Dict[str, str]  # versions beside TensorFlow's
    least_equal: float
    precision_mode: Optional[str] = None  # of atc


class InProcess(NamedTuple):
    """An engine inside this process. Normalisation of uint8 images is part of the frozen graph."""

    software: Callable[[Options], Dict[str, str]]  # UserError if something is missing
    # Prepares a frozen graph: returns infer, and the files that it runs
    load: Callable[[Reference, pathlib.Path, Options], Tuple[Infer, List[pathlib.Path]]]

    def check(self, reference: Reference, options: Options) -> None:
        self.software(options)

    def run(self, reference: Reference, frozen: pathlib.Path, options: Options) -> Outcome:
        infer, files = self.load(reference, frozen, options)
        scored, milliseconds = compare(reference, infer, options.input_dtype)
        least_equal = LEAST_EQUAL_HALF if options.precision == 'bf16' else LEAST_EQUAL
        return Outcome(scored, milliseconds, files, self.software(options), least_equal)


class OnDevice(NamedTuple):
    """A tool that runs an .om on an Ascend device. AIPP normalises uint8 images."""

    tool: str

    def check(self, reference: Reference, options: Options) -> None:
        if options.input_dtype == 'uint8':
            aipp.text(reference)
        atc.require()
        msame.TOOLS[self.tool].require()
        if not options.soc_version:
            npu_smi.soc_version()

    def run(self, reference: Reference, frozen: pathlib.Path, options: Options) -> Outcome:
        conversion = atc.plan(
            reference,
            frozen,
            frozen.with_name(reference.name + suffix(options.input_dtype) + '.om'),
            options.soc_version,
            options.input_dtype,
            options.atc_precision_mode,
        )
        print(atc.shell(conversion.command()), flush=True)  # which takes minutes
        print(atc.convert(conversion))
        work = frozen.with_name(self.tool + suffix(options.input_dtype))
        chunks = ascend.Chunks(reference, self.tool, conversion, work, options.device_id)
        return Outcome(
            *chunks.run(options.chunk),
            files=[frozen, conversion.output],
            software={'soc_version': conversion.soc_version},
            least_equal=LEAST_EQUAL if conversion.is_exact else LEAST_EQUAL_HALF,
            precision_mode=conversion.precision_mode,
        )


def compare(reference: Reference, infer: Infer, input_dtype: str) -> Tuple[ScoreSums, List[float]]:
    """Runs every record through the checkpoint's own network and through `infer`, and scores both.

    Returns the sums and the ms that infer() took for each batch.
    """
    scored, milliseconds = ScoreSums(), []
    with tqdm.tqdm(
        total=reference.split.count,
        desc='offline inference',
        unit=' images',
        disable=None,
        leave=False,
        dynamic_ncols=True,
    ) as bar:
        for batch in reference.batches():
            images = batch.input(input_dtype)
            if not milliseconds:
                infer(images)  # the first call allocates and compiles
            start = time.perf_counter()
            logits = infer(images)
            milliseconds.append(1000 * (time.perf_counter() - start))
            scored = scored.add(score_batch(reference, batch.features, batch.logits, logits))
            bar.update(int(batch.features['mask'].sum()))
    return scored, milliseconds


def _as_onnx(reference: Reference, frozen: pathlib.Path) -> pathlib.Path:
    model = frozen.with_suffix('.onnx')
    to_onnx.convert(frozen, model, reference.output_name)
    return model


def _onnx(reference, frozen, options):
    model = _as_onnx(reference, frozen)
    return to_onnx.engine(model, reference, options.input_dtype), [frozen, model]


def _openvino(reference, frozen, options):
    model = _as_onnx(reference, frozen)
    return openvino_engine.engine(model, options.precision or 'f32'), [frozen, model]


def _pb(reference, frozen, options):
    return pb.engine(frozen, reference, options.input_dtype), [frozen]


ENGINES = {
    'onnx': InProcess(lambda options: to_onnx.software(), _onnx),
    'openvino': InProcess(lambda options: openvino_engine.software(options.precision), _openvino),
    'pb': InProcess(lambda options: {}, _pb),
    'msame': OnDevice('msame'),
    'ais_bench': OnDevice('ais_bench'),
}
