"""The TFRecord file format and tf.train.Example.

A record is `length uint64 | masked crc32c of length | payload | masked crc32c of payload`, little
endian; the payload is a serialised Example. TensorFlow, which takes seconds to import, is loaded
only for those.
"""

import numbers
import os
import pathlib
import re
import struct
from typing import Any, Dict, List, NamedTuple, Tuple

import google_crc32c
import numpy as np

from common.errors import UserError, first_few

HEADER, FOOTER = 12, 4  # bytes before and after a payload
BAD_CONTENT = 'does not match its checksum'
_RECORD_NAME = re.compile(r'\.(tf)?record|-\d{5}-of-\d{5}', re.IGNORECASE)
_NOTE_SUFFIXES = set('.json .txt .md .csv .yaml .yml .log .npy .idx .index .md5 .sha256'.split())
_LISTS = {bytes: 'bytes_list', int: 'int64_list', float: 'float_list'}


def checksum(data: bytes) -> bytes:
    """Returns the masked crc32c of TFRecord files, 4 bytes."""
    crc = google_crc32c.value(data)
    return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def header(length: int) -> bytes:
    """Returns the 12 bytes that precede a payload of `length` bytes."""
    packed = struct.pack('<Q', length)
    return packed + checksum(packed)


def frame(payload: bytes) -> bytes:
    """Returns a payload as it stands in a file."""
    return header(len(payload)) + payload + checksum(payload)


def is_record_file(file: pathlib.Path) -> bool:
    """Whether a file starts as a TFRecord does."""
    with open(file, 'rb') as source:
        head = source.read(HEADER)
    return len(head) == HEADER and head[8:] == checksum(head[:8])


def find(path: pathlib.Path) -> List[pathlib.Path]:
    """Returns the TFRecord files of a folder, by name or else by content, in the natural order of
    their names. UserError if there is none, or if they are several data sets.
    """
    files = []
    for file in path.iterdir():
        if file.is_file() and not file.name.startswith('.') and file.stat().st_size:
            named = _RECORD_NAME.search(file.name) and file.suffix.lower() not in _NOTE_SUFFIXES
            if named or is_record_file(file):
                files.append(file)
                with open(file, 'rb') as source:
                    is_packed = source.read(2) == b'\x1f\x8b'
                if is_packed:
                    raise UserError(
                        '%s: is gzip-compressed and cannot be read at random; gunzip it' % file
                    )
    if not files:
        entries = [entry.name + '/' * entry.is_dir() for entry in path.iterdir()]
        raise UserError(
            '%s: holds no TFRecord (%s); name the folder that holds them'
            % (path, 'found ' + first_few(entries) if entries else 'it is empty')
        )
    sharded = [file.name for file in files if re.search(r'-\d{5}-of-\d{5}', file.name)]
    sets = {re.sub(r'-\d{5}(-of-\d{5}).*', r'-*\1', name) for name in sharded}
    if len(sets) > 1:
        raise UserError(
            '%s: holds several sets of records: %s; move each into a folder of its own'
            % (path, first_few(sets))
        )

    def natural(file):
        parts = re.split(r'(\d+)', file.name)
        return [int(part) if i % 2 else part for i, part in enumerate(parts)], file.name

    return sorted(files, key=natural)


def describe_corrupt(file: pathlib.Path, offset: int, lost: int, why: str) -> str:
    """Describes a corrupt record."""
    return '%s: the record at byte %d %s (%d bytes lost)' % (file, offset, why, lost)


class Scan(NamedTuple):
    """frames: int64 [n, 2], offset of each good record and length of its payload; problems: a
    message each; fingerprint: what tells the file from another.
    """

    frames: np.ndarray
    problems: List[str]
    fingerprint: Tuple


def scan(path: pathlib.Path, payloads: bool) -> Scan:
    """Walks through a file and checks the length fields, and the payloads if asked to."""
    size, offset, frames, problems, checksums = path.stat().st_size, 0, [], [], []
    with open(path, 'rb', buffering=0) as source:
        while offset < size:
            head = os.pread(source.fileno(), HEADER, offset)
            length = int.from_bytes(head[:8], 'little')
            end = offset + HEADER + length + FOOTER
            why = ''
            if len(head) == HEADER and head != header(length):
                why = 'has a damaged length field, so the rest cannot be read'
            elif len(head) < HEADER or end > size:
                why = 'is cut off by the end of the file'
            if why:
                problems.append(describe_corrupt(path, offset, size - offset, why))
                break
            body = os.pread(source.fileno(), length + FOOTER, offset + HEADER) if payloads else b''
            if payloads and body[-FOOTER:] != checksum(body[:-FOOTER]):
                problems.append(describe_corrupt(path, offset, end - offset, BAD_CONTENT))
            else:
                frames.append((offset, length))
            offset = end
        for start, length in frames[:1] + frames[-1:]:
            checksums.append(os.pread(source.fileno(), FOOTER, start + HEADER + length))
    fingerprint = (size, len(frames), *checksums)
    return Scan(np.array(frames, np.int64).reshape(-1, 2), problems, fingerprint)


def make_example(features: Dict[str, Any]) -> bytes:
    """Serialises a tf.train.Example; equal features give equal bytes.

    A value is bytes, an int or a float, or a list or tuple of one of them.
    """
    from tensorflow.core.example import example_pb2

    kinds = ((bytes, bytes), (int, numbers.Integral), (float, numbers.Real))
    example = example_pb2.Example()
    for key, value in features.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        kind = next((k for k, base in kinds if all(isinstance(v, base) for v in values)), None)
        if kind is None:
            raise TypeError('feature %r: expected bytes, int or float, found %r' % (key, value))
        getattr(example.features.feature[key], _LISTS[kind]).value.extend(values)
    return example.SerializeToString(deterministic=True)


def parse_example(payload: bytes, kinds: Dict[str, type]) -> Dict[str, Any]:
    """Returns {feature: value} of a serialised Example, None for a feature that it lacks.

    kinds: {feature: bytes, int or float}. ValueError for what is not an Example, or for a feature
    of another type or number of values.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.example import example_pb2

    example = example_pb2.Example()
    try:
        is_complete = example.ParseFromString(payload) == len(payload)
    except DecodeError:
        is_complete = False
    if not is_complete:
        raise ValueError('it is not a tf.train.Example; another program wrote it')
    features = example.features.feature
    values: Dict[str, Any] = dict.fromkeys(kinds)
    for name, kind in kinds.items():
        if name in features and features[name].WhichOneof('kind'):
            items = getattr(features[name], _LISTS[kind]).value
            if len(items) != 1:
                raise ValueError(
                    'its feature %s is not one %s value; the record was written for another model,'
                    ' or by another program' % (name, kind.__name__)
                )
            values[name] = items[0]
    return values


def locate(payload: bytes, name: str, value: bytes) -> int:
    """Returns where the bytes of a feature begin in the payload, so that a part of them can be read
    alone; -1 if they do not follow its name as they usually do.
    """
    key = b'\n%c%s\x12' % (len(name), name.encode())  # as a field: its tag, length and content
    after = payload.find(key) + len(key)
    # Between them stand two tags and the lengths of the feature, of its list and of the value.
    return next((at for at in range(after, after + 20) if payload.startswith(value, at)), -1)
