"""Records that another program has written, and damage to them."""

import pytest
import tensorflow as tf

from common.data import records
from common.errors import UserError

LENGTHS = [5, 0, 300, 17, 40]
PAYLOADS = [bytes((7 * i + j) % 256 for j in range(length)) for i, length in enumerate(LENGTHS)]
STARTS = [0, 21, 37, 353, 386]  # each record takes 16 bytes more than its payload


def write_foreign(path, payloads=PAYLOADS):
    """One TFRecord file, written by TensorFlow; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for payload in payloads:
            writer.write(payload)
    return path


def flip(path, offset):
    """Damages one byte of a file."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x40
    path.write_bytes(bytes(content))


def refusal(path, *parts, **options):
    """Fails unless opening a folder gives one line with all these parts."""
    with pytest.raises(UserError) as caught:
        records.Folder.open(path, **options)
    message = str(caught.value)
    for part in parts:
        assert str(part) in message, message
    assert '\n' not in message
