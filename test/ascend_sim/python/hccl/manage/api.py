"""hccl.manage.api: ranks and groups. Everything needs HCCL to be initialised. Differs: the texts of
its errors are the stand-in's own.
"""

from ascend_sim import device, environment

_WORLD = 'hccl_world_group'


def _ranks(group):
    """World ranks of a group, in order."""
    cluster = device.cluster()
    if group == _WORLD:
        return list(range(cluster.size))
    if group not in device.groups:
        raise RuntimeError('group %r does not exist' % group)
    return device.groups[group]


def create_group(group, rank_num, rank_ids):
    """Makes a group of the given world ranks, among them this one."""
    cluster = device.cluster()
    if (
        not isinstance(group, str)
        or not 0 < len(group) <= 127
        or group == _WORLD
        or group in device.groups
    ):
        raise RuntimeError(
            'create group error: the name %r is empty, longer than 127 characters or taken'
            % (group,)
        )
    if (
        rank_num != len(rank_ids)
        or len(set(rank_ids)) != rank_num
        or not all(0 <= rank < cluster.size for rank in rank_ids)
    ):
        raise RuntimeError(
            'create group error: %r are not %r different ranks of %d'
            % (rank_ids, rank_num, cluster.size)
        )
    if cluster.rank not in rank_ids:
        raise RuntimeError('create group error: rank %d is not in %r' % (cluster.rank, rank_ids))
    if (
        environment.first_generation()
        and rank_num in (2, 4)
        and cluster.local_size == cluster.size
        and len({rank // 4 for rank in rank_ids}) > 1
    ):
        raise RuntimeError(
            'create group error: 2 or 4 devices of a 910A must be within 0-3 or 4-7, not %r'
            % (rank_ids,)
        )
    device.groups[group] = sorted(rank_ids)


def destroy_group(group):
    device.cluster()
    if device.groups.pop(group, None) is None:
        raise RuntimeError('group %r does not exist' % group)


def get_rank_size(group=_WORLD):
    return len(_ranks(group))


def get_rank_id(group=_WORLD):
    return _ranks(group).index(device.cluster().rank)


def get_local_rank_size(group=_WORLD):
    return min(device.cluster().local_size, len(_ranks(group)))


def get_local_rank_id(group=_WORLD):
    cluster = device.cluster()
    return cluster.local_rank if group == _WORLD else get_rank_id(group)


def get_world_rank_from_group_rank(group, group_rank_id):
    ranks = _ranks(group)
    if not 0 <= group_rank_id < len(ranks):
        raise RuntimeError('group %r has no rank %r' % (group, group_rank_id))
    return ranks[group_rank_id]


def get_group_rank_from_world_rank(world_rank_id, group):
    ranks = _ranks(group)
    if world_rank_id not in ranks:
        raise RuntimeError('world rank %r is not in group %r' % (world_rank_id, group))
    return ranks.index(world_rank_id)
