"""Exact exchange of host values between ranks, inside a session that runs anyway.

On an NPU a session of its own costs an initialisation of HCCL, and HCCL sums neither int64 nor
float64. So values travel as bytes, all of a rank's in one message, and each host does the sum.
"""

import json
from typing import Any, Dict, List

import numpy as np
import tensorflow as tf

from common.devices.base import Device

HEADER = 4  # bytes that hold the length of a message


class Exchange:
    """Adds the ops of an exchange to the default graph; `gather` runs them in its session.

    Every rank must make the same exchanges in the same order.
    """

    def __init__(self, device: Device, capacity: int):
        """capacity: the longest message in bytes, the same on every rank."""
        self._size, self._length = device.size, -(-(capacity + HEADER) // 4)
        if device.size > 1:
            self._sent = tf.placeholder(tf.int32, [self._length], 'exchange/sent')
            self._received = device.all_gather(self._sent, 'exchange/received')

    def gather(self, session: tf.Session, message: bytes) -> List[bytes]:
        """Returns the messages of all ranks, in order of rank."""
        if self._size == 1:
            return [message]
        if len(message) + HEADER > 4 * self._length:
            raise ValueError('a message of %d bytes is too long' % len(message))
        framed = len(message).to_bytes(HEADER, 'little') + message
        values = np.frombuffer(framed.ljust(4 * self._length, b'\0'), np.int32)
        received = session.run(self._received, {self._sent: values})
        parts = [row.tobytes() for row in np.reshape(received, [self._size, self._length])]
        lengths = [int.from_bytes(part[:HEADER], 'little') for part in parts]
        return [part[HEADER : HEADER + length] for part, length in zip(parts, lengths)]

    def sum(self, session: tf.Session, arrays: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Sums arrays over ranks, exactly and in the same order on every rank.

        Their names, shapes and types must be the same on every rank.
        """
        local = {name: np.asarray(arrays[name]) for name in sorted(arrays)}
        parts = self.gather(session, b''.join(array.tobytes() for array in local.values()))
        sums, start = {}, 0
        for name, array in local.items():
            rank_arrays = [np.frombuffer(part, array.dtype, array.size, start) for part in parts]
            sums[name] = np.sum(rank_arrays, axis=0, dtype=array.dtype).reshape(array.shape)
            start += array.nbytes
        return sums


def gather_objects(device: Device, content: Any) -> List[Any]:
    """Exchanges one JSON value of up to 64 kB per rank, in a session of its own. Also a barrier."""
    if device.size == 1:
        return [content]
    with device.session() as session:
        parts = Exchange(device, 1 << 16).gather(session, json.dumps(content).encode())
    return [json.loads(part.decode()) for part in parts]
