"""Inference with the frozen graph in TensorFlow."""

import pathlib
from typing import Callable

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from common import devices
from common.errors import UserError
from common.task import Task

INPUT = 'inputx'  # the name that users' scripts know


def read(path: pathlib.Path) -> tf.GraphDef:
    """Returns the graph of a .pb file; UserError if there is none."""
    graph_def = tf.GraphDef()
    try:
        graph_def.ParseFromString(pathlib.Path(path).read_bytes())
    except OSError as error:
        raise UserError(
            '%s: %s; python -m offline_inference.freeze makes it' % (path, error.strerror)
        )
    except DecodeError:
        raise UserError(
            '%s is no frozen graph, or damaged; python -m offline_inference.freeze makes it' % path
        )
    return graph_def


def load(
    path: pathlib.Path, task: Task, input_dtype: str = 'float32'
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns infer(images): [--batch_size, H, W, C], normalised float32 or uint8 -> logits.

    Raises UserError if the file is no frozen graph of this model, or one for another shape of
    input.
    """
    shape = [task.cfg.batch_size] + list(task.input_shape)
    with tf.Graph().as_default() as graph:
        try:
            tf.import_graph_def(read(path), name='')
            images, logits = (
                graph.get_tensor_by_name(INPUT + ':0'),
                graph.get_tensor_by_name(task.output_name + ':0'),
            )
        except KeyError as error:
            raise UserError('%s is no frozen graph of %s: %s' % (path, task.name, error.args[0]))
        except ValueError as error:
            raise UserError(
                '%s is no frozen graph that TensorFlow %s runs: %s'
                % (path, tf.__version__, str(error).splitlines()[0])
            )
    check_input(path, images.shape.as_list() if images.shape.ndims is not None else shape, shape)
    if images.dtype.name != input_dtype:
        raise UserError(
            '%s takes %s images; give --input_dtype %s, or freeze the model anew'
            % (path, images.dtype.name, images.dtype.name)
        )
    session = tf.Session(graph=graph, config=session_config(task))
    return session.make_callable(logits, [images])


def session_config(task: Task) -> tf.ConfigProto:
    """The GPU with --device gpu, else the CPU: on an Ascend host as well, whose float16 would hide
    what a comparison looks for.
    """
    return devices.select('gpu' if task.cfg.device == 'gpu' else 'cpu').session_config()


def check_input(path: pathlib.Path, found: list, wanted: list) -> None:
    """Raises UserError if a model's input does not take what it will be given; None in `found`
    takes any size.
    """
    if len(found) != len(wanted) or any(
        size not in (None, want) for size, want in zip(found, wanted)
    ):
        raise UserError(
            '%s: its input %s is %s, wanted is %s (--batch_size, height, width, channels); freeze'
            ' the model for this shape' % (path, INPUT, found, wanted)
        )
