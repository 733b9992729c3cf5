"""The frozen graph in TensorFlow."""

import pathlib
import re
from typing import Sequence

import tensorflow as tf
from google.protobuf.message import DecodeError

from common.errors import UserError
from offline_inference.reference import Infer, Reference

INPUT = 'inputx'  # the published ports' name
# Variables, data, training and control flow, of which inference engines know little or nothing.
NOT_INFERENCE = re.compile(
    'Variable|VarHandleOp|VarIsInit|ReadVariableOp|IsVariableInit|Assign|Assert$|Print|NoOp$'
    '|Dropout$|Apply|ResourceApply|PlaceholderWithDefault|Switch$|Merge$|Enter$|Exit$|(Stateless)?'
    '(If|While)$|(Stateful)?PartitionedCall$|.*(Iterator|Dataset|Queue|Summary|PyFunc|Grad$)'
)
_FREEZE = 'python -m offline_inference.freeze makes one'


def read(path: pathlib.Path) -> tf.GraphDef:
    """Returns the graph of a .pb file; UserError if it cannot be read."""
    graph_def = tf.GraphDef()
    try:
        graph_def.ParseFromString(pathlib.Path(path).read_bytes())
    except OSError as error:
        raise UserError('%s: %s; %s' % (path, error.strerror, _FREEZE))
    except DecodeError:
        raise UserError('%s is not a frozen graph, or it is damaged; %s' % (path, _FREEZE))
    return graph_def


def load(path: pathlib.Path, reference: Reference) -> tf.Graph:
    """Returns the graph of a .pb file; UserError if its input and output are not the model's."""
    with tf.Graph().as_default() as graph:
        try:
            tf.import_graph_def(read(path), name='')
            shape = graph.get_tensor_by_name(INPUT + ':0').shape
            graph.get_tensor_by_name(reference.output_name + ':0')
        except KeyError as error:
            raise UserError(
                '%s is not a frozen graph of %s: %s; %s'
                % (path, reference.name, error.args[0], _FREEZE)
            )
        except ValueError as error:
            raise UserError(
                '%s is not a graph that TensorFlow %s can run: %s; %s'
                % (path, tf.__version__, str(error).splitlines()[0], _FREEZE)
            )
    check_shape(path, reference.input_shape if shape.ndims is None else shape.as_list(), reference)
    return graph


def engine(path: pathlib.Path, reference: Reference, input_dtype: str = 'float32') -> Infer:
    """Returns infer; UserError if the graph is not one of this network, or takes another input."""
    graph = load(path, reference)
    images = graph.get_tensor_by_name(INPUT + ':0')
    if images.dtype.name != input_dtype:
        raise UserError(
            '%s takes %s images; give --input_dtype %s, or freeze the model again'
            % (path, images.dtype.name, images.dtype.name)
        )
    session = tf.Session(graph=graph, config=reference.session_config())
    return session.make_callable(graph.get_tensor_by_name(reference.output_name + ':0'), [images])


def check_shape(path: pathlib.Path, shape: Sequence, reference: Reference) -> None:
    """Raises UserError if a model's input does not take a batch; None in `shape` is any size."""
    expected = reference.input_shape
    if len(shape) != len(expected) or any(
        size not in (None, expected_size) for size, expected_size in zip(shape, expected)
    ):
        raise UserError(
            '%s: its input %s is %s, the configuration says %s (--batch_size, height, width,'
            ' channels); freeze the model for this shape' % (path, INPUT, shape, expected)
        )
