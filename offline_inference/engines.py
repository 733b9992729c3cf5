"""What runs an exported model: ONNX Runtime and TensorFlow in this process, msame and ais_bench on
an Ascend device.

An engine is an entry of ENGINES. It checks what it needs before anything else takes time, makes
what it runs from the frozen graph, and scores the whole split.
"""

import pathlib
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import tqdm

from common.ascend import npu_smi
from common.data import records
from offline_inference import aipp, ascend, atc, msame, openvino_engine, pb, to_onnx
from offline_inference.reference import Infer, Reference
from offline_inference.score import Scored, score_batch

LEAST_EQUAL = 0.999  # of the predictions
# float16 rounds by 1/2048 and bfloat16 by 1/256, which swaps classes of almost equal logits.
LEAST_EQUAL_HALF = 0.99


class Options(NamedTuple):
    """Flags of a run; an engine's `flags` are those that it takes besides input_dtype."""

    input_dtype: str = 'float32'
    precision: Optional[str] = None  # that OpenVINO computes in
    soc_version: Optional[str] = None
    atc_precision_mode: Optional[str] = None
    chunk: Optional[int] = None  # batches on the disk at a time
    device_id: int = 0


class Outcome(NamedTuple):
    """What an engine made of the split."""

    scored: Scored
    milliseconds: List[float]  # of each batch
    files: Dict[str, pathlib.Path]  # by kind
    software: Dict[str, str]  # versions beside TensorFlow's
    least_equal: float
    precision_mode: Optional[str] = None  # of atc


class InProcess(NamedTuple):
    """An engine inside this process. Normalisation of uint8 images is part of the frozen graph."""

    software: Callable[[Options], Dict[str, str]]  # raises UserError if something is missing
    load: Callable[[Reference, pathlib.Path, Options], Tuple[Infer, Dict[str, pathlib.Path]]]
    flags: Tuple[str, ...] = ()

    def check(self, reference: Reference, options: Options) -> Options:
        self.software(options)
        return options

    def frozen_dtype(self, options: Options) -> str:
        return options.input_dtype

    def run(
        self,
        reference: Reference,
        folder: records.Folder,
        frozen: pathlib.Path,
        stem: pathlib.Path,
        options: Options,
    ) -> Outcome:
        infer, files = self.load(reference, frozen, options)
        scored, milliseconds = compare(reference, folder, infer, options.input_dtype)
        least_equal = LEAST_EQUAL_HALF if options.precision == 'bf16' else LEAST_EQUAL
        return Outcome(scored, milliseconds, files, self.software(options), least_equal)


class OnDevice(NamedTuple):
    """A tool that runs an .om on an Ascend device. AIPP normalises uint8 images."""

    tool: str
    flags: Tuple[str, ...] = ('soc_version', 'atc_precision_mode', 'chunk', 'device_id')

    def check(self, reference: Reference, options: Options) -> Options:
        """Returns the options with the chip filled in."""
        if options.input_dtype == 'uint8':
            aipp.text(reference)
        atc.require()
        msame.TOOLS[self.tool].require()
        return options._replace(soc_version=options.soc_version or npu_smi.soc_version())

    def frozen_dtype(self, options: Options) -> str:
        return 'float32'

    def run(
        self,
        reference: Reference,
        folder: records.Folder,
        frozen: pathlib.Path,
        stem: pathlib.Path,
        options: Options,
    ) -> Outcome:
        conversion = atc.plan(
            reference,
            frozen,
            stem.with_suffix('.om'),
            options.soc_version,
            options.input_dtype,
            options.atc_precision_mode,
        )
        print(atc.shell(conversion.command()), flush=True)  # which takes minutes
        print(atc.convert(reference, conversion))
        work = stem.with_name(self.tool + stem.name[len(reference.name) :])
        chunks = ascend.Chunks(reference, folder, self.tool, conversion, work, options.device_id)
        return Outcome(
            *chunks.run(options.chunk),
            files={'pb': frozen, 'om': conversion.output},
            software={'soc_version': conversion.soc_version},
            least_equal=LEAST_EQUAL if conversion.is_exact else LEAST_EQUAL_HALF,
            precision_mode=conversion.precision_mode,
        )


def compare(
    reference: Reference, folder: records.Folder, infer: Infer, input_dtype: str
) -> Tuple[Scored, List[float]]:
    """Runs every record through the checkpoint's own network and through `infer`, and scores both.

    Returns the sums and the ms that infer() took for each batch.
    """
    scored, milliseconds = Scored(), []
    with tqdm.tqdm(
        total=folder.count,
        desc='offline inference',
        unit=' images',
        disable=None,
        leave=False,
        dynamic_ncols=True,
    ) as bar:
        for batch in reference.batches(folder):
            images = batch.input(input_dtype)
            if not milliseconds:
                infer(images)  # the first call allocates and compiles
            began = time.perf_counter()
            logits = infer(images)
            milliseconds.append(1000 * (time.perf_counter() - began))
            scored = scored.add(score_batch(reference, batch.features, batch.logits, logits))
            bar.update(int(batch.features['mask'].sum()))
    return scored, milliseconds


def _onnx(
    reference: Reference, frozen: pathlib.Path, options: Options
) -> Tuple[Infer, Dict[str, pathlib.Path]]:
    model = frozen.with_suffix('.onnx')
    to_onnx.convert(frozen, model, reference.output_name)
    return to_onnx.engine(model, reference, options.input_dtype), {'pb': frozen, 'onnx': model}


def _openvino(
    reference: Reference, frozen: pathlib.Path, options: Options
) -> Tuple[Infer, Dict[str, pathlib.Path]]:
    model = frozen.with_suffix('.onnx')
    to_onnx.convert(frozen, model, reference.output_name)
    infer = openvino_engine.engine(model, options.precision or 'f32')
    return infer, {'pb': frozen, 'onnx': model}


def _pb(
    reference: Reference, frozen: pathlib.Path, options: Options
) -> Tuple[Infer, Dict[str, pathlib.Path]]:
    return pb.engine(frozen, reference, options.input_dtype), {'pb': frozen}


ENGINES = {
    'onnx': InProcess(lambda options: to_onnx.software(), _onnx),
    'openvino': InProcess(
        lambda options: openvino_engine.software(options.precision), _openvino, ('precision',)
    ),
    'pb': InProcess(lambda options: {}, _pb),
    'msame': OnDevice('msame'),
    'ais_bench': OnDevice('ais_bench'),
}
