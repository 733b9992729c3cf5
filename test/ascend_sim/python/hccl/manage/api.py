"""hccl.manage.api: this process's rank. Needs HCCL to be initialised."""

from ascend_sim import device


def get_rank_size():
    return device.cluster().size


def get_rank_id():
    return device.cluster().rank
