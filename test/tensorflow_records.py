"""TFRecords that TensorFlow alone has written or reads, for tests."""

import tensorflow as tf


def feature(value):
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def write(path, rows):
    """One file, with a record of each {feature: bytes or int}; returns its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            features = {key: feature(value) for key, value in row.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return path.parent


def read(folder):
    """[{feature: bytes or int}] of the files in the order of their names; each has one value."""
    rows = []
    for file in sorted(folder.glob('*.tfrecord')):
        for record in tf.io.tf_record_iterator(str(file)):
            rows.append({})
            for key, found in tf.train.Example.FromString(record).features.feature.items():
                (rows[-1][key],) = getattr(found, found.WhichOneof('kind')).value
    return rows


def elements(dataset):
    """The elements as NumPy arrays."""
    tensors, found = dataset.make_one_shot_iterator().get_next(), []
    with tf.Session() as session:
        while True:
            try:
                found.append(session.run(tensors))
            except tf.errors.OutOfRangeError:
                return found


def elements_of_known_shape(dataset):
    """The elements, dicts of NumPy arrays; their shapes must be known before they are read."""
    shapes = tf.data.get_output_shapes(dataset)
    assert all(shape.is_fully_defined() for shape in shapes.values()), shapes
    return elements(dataset)
