"""HCCL's graph ops, carried out by Horovod between processes and by nothing at all on one rank.

Differs from the real thing: fusion is checked and recorded but has no effect, groups other than
hccl_world_group must hold all ranks, and what an all-reduce leaves on ranks that are not the root
of a reduce() is the rank's own input.
"""

import tensorflow.compat.v1 as tf

from ascend_sim import device, environment, marks

WORLD = 'hccl_world_group'
_REDUCTIONS = ('min', 'max', 'prod', 'sum')
_REDUCED = ('int8', 'int16', 'int32', 'int64', 'float16', 'float32', 'bfloat16')
_GATHERED = _REDUCED + ('uint8', 'uint16', 'uint32', 'uint64', 'float64')
_LIMIT = 8 << 30  # bytes


def _group(group: str) -> None:
    if group == WORLD:
        return
    if group not in device.groups:
        raise ValueError(
            'group %r was not created; hccl.manage.api.create_group comes first' % group
        )
    if len(device.groups[group]) != environment.rank_size():
        raise NotImplementedError(
            'the stand-in has collectives over all ranks only, group %r has %s'
            % (group, device.groups[group])
        )


def _input(tensor, types, op: str):
    if isinstance(tensor, tf.Variable):
        raise ValueError('%s: the input may not be a variable; give it tf.identity(variable)' % op)
    tensor = tf.convert_to_tensor(tensor)
    if tensor.dtype.base_dtype.name not in types:
        raise TypeError(
            "Value passed to parameter 'input' has DataType %s not in list of allowed values: %s"
            % (tensor.dtype.base_dtype.name, ', '.join(types))
        )
    if tensor.shape.num_elements() and tensor.shape.num_elements() * tensor.dtype.size > _LIMIT:
        raise ValueError('%s: an input is at most 8 GB' % op)
    return tensor


def _reduction(reduction: str) -> None:
    if reduction not in _REDUCTIONS:
        raise ValueError(
            'Value for attr \'reduction\' of "%s" is not in the list of allowed values: "min",'
            ' "max", "prod", "sum"' % reduction
        )


def _fusion(fusion: int, fusion_id: int, legal) -> None:
    if fusion not in legal:
        raise ValueError('fusion %r is illegal, it is one of %s' % (fusion, list(legal)))
    if fusion == 2 and not 0 <= fusion_id <= 0x7FFFFFFF:
        raise ValueError('fusion_id %r is illegal with fusion 2, it is 0 or more' % fusion_id)


def _root(root_rank: int) -> None:
    if not 0 <= root_rank < environment.rank_size():
        raise ValueError(
            'root_rank %r is illegal, the job has %d ranks' % (root_rank, environment.rank_size())
        )


def _horovod():
    from horovod.tensorflow import mpi_ops

    return mpi_ops


def _allreduce(tensor, reduction, fusion, kind):
    """Horovod keys a collective by the name of its node, which is the same on all ranks if they
    build the same graph.
    """
    with marks.scope(kind, fusion):
        if environment.rank_size() == 1:
            return tf.identity(tensor, name=kind.decode())
        hvd = _horovod()
        op = {'sum': hvd.Sum, 'min': hvd.Min, 'max': hvd.Max, 'prod': hvd.Product}[reduction]
        result = hvd.MPI_LIB.horovod_allreduce(
            tensor,
            name=kind.decode(),
            reduce_op=op,
            prescale_factor=1.0,
            postscale_factor=1.0,
            ignore_name_scope=False,
            process_set_id=0,
        )
        result.set_shape(tensor.shape)
        return result


def allreduce(tensor, reduction, fusion, fusion_id, group):
    _group(group)
    _reduction(reduction)
    _fusion(fusion, fusion_id, (0, 1, 2))
    return _allreduce(
        _input(tensor, _REDUCED, 'HcomAllReduce'),
        reduction,
        fusion if reduction == 'sum' else 0,
        b'HcomAllReduce',
    )


def allgather(tensor, rank_size, group, fusion=0, fusion_id=-1):
    _group(group)
    _fusion(fusion, fusion_id, (0, 2))
    if rank_size != environment.rank_size():
        raise ValueError(
            'rank_size should be %d, the number of ranks of the group, not %r'
            % (environment.rank_size(), rank_size)
        )
    tensor = _input(tensor, _GATHERED, 'HcomAllGather')
    if tensor.shape.ndims == 0:
        raise ValueError('Shape must be at least rank 1 but is rank 0 for HcomAllGather')
    with marks.scope(b'HcomAllGather', fusion):
        if rank_size == 1:
            return tf.identity(tensor, name='HcomAllGather')
        result = _horovod().MPI_LIB.horovod_allgather(
            tensor, name='HcomAllGather', ignore_name_scope=False, process_set_id=0
        )
        shape = tensor.shape.as_list() if tensor.shape.ndims else None
        if shape and None not in shape:
            result = tf.reshape(result, [shape[0] * rank_size] + shape[1:])
        return result


def broadcast(tensors, root_rank, fusion, fusion_id, group):
    _group(group)
    _root(root_rank)
    _fusion(fusion, fusion_id, (0, 2))
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(
            "Expected list for 'input' argument to 'HcomBroadcast' Op, not %r." % tensors
        )
    results = []
    tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
    with marks.scope(b'HcomBroadcast', fusion):
        for tensor in tensors:
            if environment.rank_size() == 1:
                results.append(tf.identity(tensor, name='HcomBroadcast'))
                continue
            result = _horovod().MPI_LIB.horovod_broadcast(
                tensor,
                name='HcomBroadcast',
                root_rank=root_rank,
                ignore_name_scope=False,
                process_set_id=0,
            )
            result.set_shape(tensor.shape)
            results.append(result)
    return results


def reduce(tensor, reduction, root_rank, fusion, fusion_id, group):
    _group(group)
    _root(root_rank)
    _reduction(reduction)
    _fusion(fusion, fusion_id, (0, 2))
    tensor = _input(tensor, _REDUCED, 'HcomReduce')
    summed = _allreduce(tensor, reduction, fusion, b'HcomReduce')
    return summed if device.rank_of_environment() == root_rank else tf.identity(tensor)


def reduce_scatter(tensor, reduction, rank_size, group, fusion=0, fusion_id=-1):
    _group(group)
    _reduction(reduction)
    _fusion(fusion, fusion_id, (0, 2))
    if rank_size != environment.rank_size():
        raise ValueError(
            'rank_size should be %d, the number of ranks of the group, not %r'
            % (environment.rank_size(), rank_size)
        )
    tensor = _input(tensor, _REDUCED, 'HcomReduceScatter')
    rows = tensor.shape.as_list()[0]
    if rows is None or rows % rank_size:
        raise ValueError('input first dim should be N * rank_size.')
    part = rows // rank_size
    start = device.rank_of_environment() * part
    return _allreduce(tensor, reduction, fusion, b'HcomReduceScatter')[start : start + part]
