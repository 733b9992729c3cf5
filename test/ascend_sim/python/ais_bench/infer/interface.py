"""Inference sessions in Python."""

import collections
import time
from typing import List

import numpy as np
from offline import om

TensorDesc = collections.namedtuple(
    'TensorDesc', 'name datatype shape realsize'
)  # realsize: bytes in the chosen profile
Summary = collections.namedtuple('Summary', 'exec_time_list')  # milliseconds


class InferSession:
    """One offline model on a device."""

    def __init__(
        self,
        device_id: int,
        model_path: str,
        acl_json_path: str = None,
        debug: bool = False,
        loop: int = 1,
    ):
        try:
            self._model = om.Model(model_path)
        except om.OmError as error:
            raise RuntimeError('load model from file failed: %s' % error) from None
        self.device_id, self.model_path, self.loop = device_id, model_path, loop
        self._gear, self._chosen, self._times = 0, self._model.kind is None, []

    def get_inputs(self) -> List[TensorDesc]:
        """Name, dtype, shape and size of every input."""
        shapes = self._model.input_shapes(self._gear)
        return [
            TensorDesc(item['name'], item['dtype'], shape, om.nbytes(shape, item['dtype']))
            for item, shape in zip(self._model.inputs, shapes)
        ]

    def get_outputs(self) -> List[TensorDesc]:
        """Name, dtype, shape and size of every output."""
        return [
            TensorDesc(
                item['name'],
                item['dtype'],
                item['shapes'][self._gear],
                om.nbytes(item['shapes'][self._gear], item['dtype']),
            )
            for item in self._model.outputs
        ]

    def set_loop_count(self, loop: int) -> None:
        """Executions for each call."""
        self.loop = loop

    def set_staticbatch(self) -> None:
        """For models without profiles, the default."""

    def set_dynamic_batchsize(self, batch: int) -> None:
        """Chooses the batch size of a model with --dynamic_batch_size."""
        if self._model.kind != 'batch' or [int(batch)] not in self._model.gears:
            raise RuntimeError('dynamic batch size %s is none of the model' % batch)
        self._gear, self._chosen = self._model.gears.index([int(batch)]), True

    def run(self, feeds: List[np.ndarray], out_array: bool = False) -> List[np.ndarray]:
        """Outputs for arrays whose bytes are the inputs. Raises RuntimeError if their sizes are not
        the inputs' exactly.
        """
        descriptions = self.get_inputs()
        if not self._chosen:
            raise RuntimeError('the model has profiles, choose one')
        if len(feeds) != len(descriptions):
            raise RuntimeError(
                '%d inputs are given, the model has %d' % (len(feeds), len(descriptions))
            )
        arrays = []
        for index, (feed, item) in enumerate(zip(feeds, descriptions)):
            if feed.nbytes != item.realsize:
                raise RuntimeError(
                    'Check i:%d name:%s in size:%d needsize:%d not match'
                    % (index, item.name, feed.nbytes, item.realsize)
                )
            arrays.append(
                np.frombuffer(np.ascontiguousarray(feed).tobytes(), item.datatype).reshape(
                    item.shape
                )
            )
        self._model.prepare(self._gear)
        for _ in range(self.loop):
            begin = time.perf_counter()
            results = self._model.run(arrays, self._gear)
            self._times.append(1000 * (time.perf_counter() - begin))
        return results

    def infer(
        self, feeds: List[np.ndarray], mode: str = 'static', custom_sizes: int = 100000
    ) -> List[np.ndarray]:
        """run() for arrays and numpy scalars."""
        if mode in ('dymshape', 'dymdims'):
            raise NotImplementedError(
                'mode %s is not modelled by the stand-in (test/ascend_sim)' % mode
            )
        return self.run([np.asarray(feed) for feed in feeds], out_array=True)

    def sumary(self) -> Summary:
        """Times of the executions since the last reset."""
        return Summary(self._times)

    def reset_sumaryinfo(self) -> None:
        """Forgets the times."""
        self._times = []

    def finalize(self) -> None:
        """Gives the model back."""
