"""The stand-in's .om file and its execution on the CPU.

The file: the four bytes IMOD, then a zip of graph.pb (the GraphDef, rounded already) and
model.json:
 soc_version, input_format, gear_kind (null, "batch", "image", "dims"), gears (profiles; [[]] for a
     static model),
 inputs  [{"name", "dtype", "shape" (-1 in dynamic models), "feed" (dtype of the Placeholder),
         "aipp" (null or aipp.read's fields)}],
 outputs [{"name" "node:index", "fetch" tensor, "dtype", "shapes" one for each profile}].
"""

import io
import json
import os
import zipfile
from typing import Any, Dict, List

import numpy as np

from offline import aipp

MAGIC = b'IMOD'


class OmError(Exception):
    """The file is no offline model of the stand-in."""


def write(path: str, graph: bytes, meta: Dict[str, Any]) -> None:
    """Writes the offline model, whole or not at all."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w', zipfile.ZIP_STORED) as archive:
        archive.writestr('graph.pb', graph)
        archive.writestr('model.json', json.dumps(meta, indent=1))
    with open(path + '.tmp', 'wb') as file:
        file.write(MAGIC + data.getvalue())
    os.replace(path + '.tmp', path)


def fill(shape: List[int], gear: List[int], kind: str, used: int = 0) -> List[int]:
    """`shape` with its -1 replaced from a profile; 'dims' profiles go on from number `used`, the
    others start anew for every input.
    """
    numbers = iter(gear[used:] if kind == 'dims' else gear)
    return [next(numbers) if size == -1 else size for size in shape]


def shapes_of(shapes: List[List[int]], gear: List[int], kind: str) -> List[List[int]]:
    """The inputs' shapes in one profile."""
    result, used = [], 0
    for shape in shapes:
        result.append(fill(shape, gear, kind, used))
        used += shape.count(-1)
    return result


def nbytes(shape: List[int], dtype: str) -> int:
    """Bytes of a tensor."""
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize


def convert(array: np.ndarray, dtype: str) -> np.ndarray:
    """The cast at the end of the model: integers are truncated to, and saturate at, the range of
    `dtype`; so does float16.
    """
    wanted = np.dtype(dtype)
    if wanted.kind in 'iu' and array.dtype.kind == 'f':
        array = np.clip(array, np.iinfo(wanted).min, np.iinfo(wanted).max)
    if wanted == np.float16:
        array = np.clip(array, -65504, 65504)
    return array.astype(wanted)


class Model:
    """An offline model that is ready to run, one TensorFlow session for each profile that is used."""

    def __init__(self, path: str):
        try:
            with open(path, 'rb') as file:
                data = file.read()
            if not data.startswith(MAGIC):
                raise OmError('%s is no offline model' % path)
            with zipfile.ZipFile(io.BytesIO(data[len(MAGIC) :])) as archive:
                self._graph = archive.read('graph.pb')
                self.meta = json.loads(archive.read('model.json').decode())
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise OmError('%s: %s' % (path, error)) from None
        self.inputs, self.outputs, self.gears, self.kind = (
            self.meta[key] for key in ('inputs', 'outputs', 'gears', 'gear_kind')
        )
        self._sessions = {}

    def input_shapes(self, gear: int = 0) -> List[List[int]]:
        """Shapes of what is fed in profile number `gear`, after aipp.fit's change for inputs with
        AIPP.
        """
        return shapes_of([item['shape'] for item in self.inputs], self.gears[gear], self.kind)

    def prepare(self, gear: int = 0) -> None:
        """Loads what running a profile needs, so that it is not part of the time of the run."""
        if gear not in self._sessions:
            import tensorflow.compat.v1 as tf

            from offline import graph

            graph_def = tf.GraphDef()
            graph_def.ParseFromString(self._graph)
            shapes = shapes_of(
                [item['model_shape'] for item in self.inputs], self.gears[gear], self.kind
            )
            loaded = graph.load(
                graph_def, {item['name']: shape for item, shape in zip(self.inputs, shapes)}
            )
            self._sessions[gear] = tf.Session(graph=loaded)

    def run(self, arrays: List[np.ndarray], gear: int = 0) -> List[np.ndarray]:
        """Outputs for inputs of the file's dtypes and input_shapes(gear)."""
        self.prepare(gear)
        feeds = {}
        for item, array in zip(self.inputs, arrays):
            array = aipp.apply(item['aipp'], array) if item['aipp'] else array
            feeds[item['name'] + ':0'] = array.astype(item['feed'])
        results = self._sessions[gear].run([item['fetch'] for item in self.outputs], feeds)
        return [
            convert(np.asarray(result), item['dtype'])
            for result, item in zip(results, self.outputs)
        ]
