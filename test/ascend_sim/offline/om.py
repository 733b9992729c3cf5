"""The stand-in's .om file and its execution on the CPU.

The file: the four bytes IMOD, then a zip of graph.pb (the GraphDef, rounded already) and
model.json:
 inputs  [{"name", "dtype", "shape", "feed" (dtype of the Placeholder), "aipp" (null or fields)}],
 outputs [{"name", "fetch" (tensor), "dtype", "shape"}].
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
    """The file is not an offline model of the stand-in."""


def write(path: str, graph: bytes, meta: Dict[str, Any]) -> None:
    """Writes the offline model, whole or not at all."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w', zipfile.ZIP_STORED) as archive:
        archive.writestr('graph.pb', graph)
        archive.writestr('model.json', json.dumps(meta, indent=1))
    with open(path + '.tmp', 'wb') as file:
        file.write(MAGIC + data.getvalue())
    os.replace(path + '.tmp', path)


def nbytes(item: Dict[str, Any]) -> int:
    """Bytes of an input or output."""
    return int(np.prod(item['shape'], dtype=np.int64)) * np.dtype(item['dtype']).itemsize


class Model:
    """An offline model that is ready to run."""

    def __init__(self, path: str):
        try:
            with open(path, 'rb') as file:
                data = file.read()
            if not data.startswith(MAGIC):
                raise OmError('%s is not an offline model' % path)
            with zipfile.ZipFile(io.BytesIO(data[len(MAGIC) :])) as archive:
                graph = archive.read('graph.pb')
                meta = json.loads(archive.read('model.json').decode())
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise OmError('%s: %s' % (path, error)) from None
        self.inputs, self.outputs = meta['inputs'], meta['outputs']
        import tensorflow.compat.v1 as tf

        from offline import graph as graphs

        shapes = {item['name']: item['shape'] for item in self.inputs}
        self._session = tf.Session(graph=graphs.load(tf.GraphDef.FromString(graph), shapes))

    def run(self, buffers: List[bytes]) -> List[np.ndarray]:
        """Outputs for the bytes of the inputs; float16 saturates."""
        feeds = {}
        for item, data in zip(self.inputs, buffers):
            array = np.frombuffer(data, item['dtype']).reshape(item['shape'])
            array = aipp.apply(item['aipp'], array) if item['aipp'] else array
            feeds[item['name'] + ':0'] = array.astype(item['feed'])
        results = self._session.run([item['fetch'] for item in self.outputs], feeds)
        return [
            (np.clip(result, -65504, 65504) if item['dtype'] == 'float16' else result).astype(
                item['dtype']
            )
            for result, item in zip(results, self.outputs)
        ]
