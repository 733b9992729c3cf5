"""HCCL's graph ops, carried out by Horovod between processes and by an identity on one rank.

Fusion is checked and recorded, but has no effect.
"""

import tensorflow.compat.v1 as tf

from ascend_sim import environment, marks

_REDUCED = ('int8', 'int16', 'int32', 'int64', 'float16', 'float32', 'bfloat16')
_GATHERED = _REDUCED + ('uint8', 'uint16', 'uint32', 'uint64', 'float64')


def _check(group: str, fusion: int, legal) -> None:
    if group != 'hccl_world_group':
        raise NotImplementedError('group %r: the stand-in has the world group only' % group)
    if fusion not in legal:
        raise ValueError('fusion %r is illegal, it is one of %s' % (fusion, list(legal)))


def _input(tensor, types, op: str):
    if isinstance(tensor, tf.Variable):
        raise ValueError('%s: the input may not be a variable; give it tf.identity(variable)' % op)
    tensor = tf.convert_to_tensor(tensor)
    if tensor.dtype.base_dtype.name not in types:
        raise TypeError(
            "Value passed to parameter 'input' has DataType %s not in list of allowed values: %s"
            % (tensor.dtype.base_dtype.name, ', '.join(types))
        )
    return tensor


def _run(kind: str, fusion: int, tensor, call):
    """Horovod keys a collective by the name of its node, which is the same on all ranks if they
    build the same graph. call(library, Horovod's arguments) -> tensor.
    """
    with marks.scope(kind.encode(), fusion):
        if environment.rank_size() == 1:
            return tf.identity(tensor, name=kind)
        try:
            from horovod.tensorflow import mpi_ops
        except ImportError:  # the graph can be looked at, and Grappler keeps this op in it
            return tf.raw_ops.Snapshot(input=tensor, name=kind)
        return call(mpi_ops, dict(name=kind, ignore_name_scope=False, process_set_id=0))


def allreduce(tensor, reduction, fusion, group):
    """HcomAllReduce; the sum alone is modelled."""
    _check(group, fusion, (0, 1, 2))
    if reduction != 'sum':
        raise NotImplementedError('reduction %r: the stand-in has sum only' % reduction)
    tensor = _input(tensor, _REDUCED, 'HcomAllReduce')

    def call(hvd, arguments):
        result = hvd.MPI_LIB.horovod_allreduce(
            tensor, reduce_op=hvd.Sum, prescale_factor=1.0, postscale_factor=1.0, **arguments
        )
        result.set_shape(tensor.shape)
        return result

    return _run('HcomAllReduce', fusion, tensor, call)


def allgather(tensor, rank_size, group, fusion):
    """HcomAllGather: the ranks' tensors, of one shape, one behind the other."""
    _check(group, fusion, (0, 2))
    if rank_size != environment.rank_size():
        raise ValueError(
            'rank_size should be %d, the number of ranks of the group, not %r'
            % (environment.rank_size(), rank_size)
        )
    tensor = _input(tensor, _GATHERED, 'HcomAllGather')
    if tensor.shape.ndims == 0:
        raise ValueError('Shape must be at least rank 1 but is rank 0 for HcomAllGather')

    def call(hvd, arguments):
        shape = tensor.shape.as_list()
        result = hvd.MPI_LIB.horovod_allgather(tensor, **arguments)
        return tf.reshape(result, [shape[0] * rank_size] + shape[1:])

    return _run('HcomAllGather', fusion, tensor, call)


def broadcast(tensors, root_rank, fusion, group):
    """HcomBroadcast of a list of tensors."""
    _check(group, fusion, (0, 2))
    if not 0 <= root_rank < environment.rank_size():
        raise ValueError(
            'root_rank %r is illegal, the job has %d ranks' % (root_rank, environment.rank_size())
        )
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(
            "Expected list for 'input' argument to 'HcomBroadcast' Op, not %r." % tensors
        )

    def one(tensor):
        def call(hvd, arguments):
            result = hvd.MPI_LIB.horovod_broadcast(tensor, root_rank=root_rank, **arguments)
            result.set_shape(tensor.shape)
            return result

        return _run('HcomBroadcast', fusion, tensor, call)

    return [one(tf.convert_to_tensor(tensor)) for tensor in tensors]
