"""npu_bridge.hccl.hccl_ops. Differs: see ascend_sim.collectives; send, receive, remote and
all-to-all ops are not modelled.
"""

from ascend_sim import collectives, release


def allreduce(tensor, reduction, fusion, fusion_id, group):
    return collectives.allreduce(tensor, reduction, fusion, fusion_id, group)


def allgather(tensor, rank_size, group, fusion=0, fusion_id=-1):
    return collectives.allgather(tensor, rank_size, group, fusion, fusion_id)


def broadcast(tensor, root_rank, fusion, fusion_id, group):
    return collectives.broadcast(tensor, root_rank, fusion, fusion_id, group)


def reduce(tensor, reduction, root_rank, fusion, fusion_id, group):
    return collectives.reduce(tensor, reduction, root_rank, fusion, fusion_id, group)


def reduce_scatter(tensor, reduction, rank_size, group, fusion=0, fusion_id=-1):
    return collectives.reduce_scatter(tensor, reduction, rank_size, group, fusion, fusion_id)


release.publish(globals(), __name__)
