"""Inference with OpenVINO on the CPU, in float32 or bfloat16; an optional package."""

import pathlib
import threading
from typing import Any, Dict, Optional

import numpy as np

from common.errors import UserError
from offline_inference import to_onnx
from offline_inference.cli import optional_package
from offline_inference.reference import Infer


def _runtime() -> Any:
    return optional_package(
        'openvino.runtime',
        'openvino',
        'pip install -r requirements-openvino.txt installs it, or give --backend onnx',
    )


def software(precision: Optional[str] = None) -> Dict[str, str]:
    """Versions of the packages; UserError if one is missing, or the CPU has no such precision."""
    versions = dict(to_onnx.software(), openvino=_runtime().get_version())
    capabilities = _runtime().Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    if precision == 'bf16' and 'BF16' not in capabilities:
        raise UserError('--precision bf16: this CPU has no bfloat16; give --precision f32')
    return versions


def engine(path: pathlib.Path, precision: str, throughput: bool = False) -> Infer:
    """Returns infer of an ONNX model that offline_inference.to_onnx wrote.

    throughput: for several calls at a time, from as many threads; else for the least latency.
    """
    hint = 'THROUGHPUT' if throughput else 'LATENCY'
    settings = {'INFERENCE_PRECISION_HINT': precision, 'PERFORMANCE_HINT': hint}
    try:
        compiled = _runtime().Core().compile_model(str(path), 'CPU', settings)
    except RuntimeError as error:
        text = ' '.join(str(error).split())
        raise UserError('%s: OpenVINO cannot run it: %s; give --backend onnx' % (path, text))

    requests = threading.local()

    def infer(images: np.ndarray) -> np.ndarray:
        if not hasattr(requests, 'request'):
            requests.request = compiled.create_infer_request()
        return requests.request.infer({0: images})[compiled.output(0)].copy()

    return infer
