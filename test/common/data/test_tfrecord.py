"""common.data.tfrecord against TensorFlow's own classes."""

import numpy as np
import pytest
import tensorflow as tf

from common.data import tfrecord


def test_example_equals_tensorflows():
    features = {
        'z': b'\x00\xff',
        'many': [b'', b'ab'],
        'int': -3,
        'big': 2**62,
        'ints': [0, 127, 128, np.int64(300)],
        'float': 0.25,
        'floats': (1.5, -2.0),
        'é': 1,
    }
    expected = tf.train.Example()
    for key, value in features.items():
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        kind = {bytes: 'bytes_list', float: 'float_list'}.get(type(values[0]), 'int64_list')
        getattr(expected.features.feature[key], kind).value.extend(values)
    assert tf.train.Example.FromString(tfrecord.make_example(features)) == expected
    assert tfrecord.make_example(features) == tfrecord.make_example(
        dict(reversed(list(features.items())))
    )
    with pytest.raises(TypeError, match='name'):
        tfrecord.make_example({'name': 'text'})


def test_features_are_read_by_name_and_type():
    payload = tfrecord.make_example({'a': b'x', 'b': 2**40, 'c': 0.5, 'two': [1, 2], 'none': []})
    kinds = {'a': bytes, 'b': int, 'c': float, 'absent': int}
    found = tfrecord.parse_example(payload, kinds)
    assert found == {'a': b'x', 'b': 2**40, 'c': 0.5, 'absent': None}
    assert tfrecord.parse_example(b'', {'a': bytes}) == {'a': None}
    for kinds, message in (
        ({'a': int}, 'its feature a is not one int value'),
        ({'b': bytes}, 'its feature b is not one bytes value'),
        ({'two': int}, 'its feature two is not one int value'),
    ):
        with pytest.raises(ValueError, match=message):
            tfrecord.parse_example(payload, kinds)


def test_what_is_not_an_example_is_an_error():
    """Any bytes: TensorFlow's parser ends the process at some of them."""
    random = np.random.RandomState(0)
    good = tfrecord.make_example({'image': bytes(50), 'label': 3})
    refused = 0
    for _ in range(2000):
        payload = bytearray(good)
        for at in random.randint(len(payload), size=random.randint(1, 5)):
            payload[at] = random.randint(256)
        try:
            tfrecord.parse_example(bytes(payload), {'image': bytes, 'label': int})
        except ValueError:
            refused += 1
    assert refused > 500
    with pytest.raises(ValueError, match='it is not a tf.train.Example'):
        tfrecord.parse_example(b'\xff' * 50, {})


def test_bytes_are_located():
    values = {'image': bytes(range(256)) * 3, 'label': b'', 'name': b'\x0a\x05label'}
    payload = tfrecord.make_example(dict(values, height=3, floats=[1.0, 2.0], label=b'x' * 200))
    values['label'] = b'x' * 200
    for name, value in values.items():
        place = tfrecord.locate(payload, name, value)
        assert payload[place : place + len(value)] == value
        assert tfrecord.locate(payload, name, value + b'other') == -1
    assert tfrecord.locate(payload, 'absent', b'absent') == -1
