"""npu_bridge.helper.helper. Differs: the "generated ops" are Python functions that build ordinary
TensorFlow ops.
"""

import tensorflow.compat.v1 as tf
from ascend_sim import collectives, marks, overflow

version = 'v1.15.0'


class _GeneratedOps:
    """The ops of _tf_adapter.so that the stand-in models."""

    @staticmethod
    def npu_init(name=None):
        with marks.scope(marks.INIT):
            return tf.no_op(name=name or 'NPUInit')

    @staticmethod
    def npu_shutdown(name=None):
        with marks.scope(marks.SHUTDOWN):
            return tf.no_op(name=name or 'NPUShutdown')

    @staticmethod
    def npu_alloc_float_status(name=None):
        return tf.zeros([1], tf.float32, name=name)

    @staticmethod
    def npu_get_float_status(float_status, name=None):
        """Returns the status; the real op also writes it into its input."""
        with tf.control_dependencies([float_status]):
            return tf.cast(overflow.get_status()[:1], tf.float32, name=name)

    @staticmethod
    def npu_clear_float_status(float_status, name=None):
        with tf.control_dependencies([float_status]), tf.control_dependencies(
            [overflow.clear_status()]
        ):
            return tf.zeros([1], tf.float32, name=name)

    npu_get_float_status_v2 = staticmethod(overflow.get_status)
    npu_clear_float_status_v2 = staticmethod(overflow.clear_status)

    @staticmethod
    def hcom_all_reduce(input, reduction, fusion, fusion_id, group, name=None):
        return collectives.allreduce(input, reduction, fusion, fusion_id, group)

    @staticmethod
    def hcom_all_gather(input, group, fusion, fusion_id, rank_size, name=None):
        return collectives.allgather(input, rank_size, group, fusion, fusion_id)

    @staticmethod
    def hcom_broadcast(input, fusion, fusion_id, group, root_rank, name=None):
        return collectives.broadcast(input, root_rank, fusion, fusion_id, group)

    def __getattr__(self, name):
        raise NotImplementedError(
            'the op %s of _tf_adapter.so is not modelled by the stand-in (test/ascend_sim)' % name
        )


npu_bridge_handle = _GeneratedOps()


def get_gen_ops():
    return npu_bridge_handle
