"""npu_bridge.hccl.hccl_ops, as far as ascend_sim.collectives goes."""

from ascend_sim import collectives, release


@release.signed
def allreduce(tensor, reduction, fusion, fusion_id, group):
    return collectives.allreduce(tensor, reduction, fusion, group)


@release.signed
def allgather(tensor, rank_size, group, fusion=0, fusion_id=-1):
    return collectives.allgather(tensor, rank_size, group, fusion)


@release.signed
def broadcast(tensor, root_rank, fusion, fusion_id, group):
    return collectives.broadcast(tensor, root_rank, fusion, group)
