"""npu_bridge.estimator.npu.npu_common: who this process is, read from the environment once.
Differs: no job file of a cloud.
"""

import os

from ascend_sim import environment


class DeviceInfo:
    def __init__(self, index='0'):
        self._index = index
        self._root_rank = 0

    def is_master_node(self):
        return self._index == self._root_rank


class JobInfo:
    def __init__(self, job_id, device_info, local_checkpoint_dir, rank_size):
        self._job_id = job_id
        self._device_info = device_info
        self._local_checkpoint_dir = local_checkpoint_dir
        self._rank_size = rank_size


class NPUBasics:
    """A singleton: what the first instance read stays, even if that was the lack of a JOB_ID."""

    _instance = None

    def __new__(cls, file_name):
        if cls._instance is None:
            cls._instance = super().__new__(cls)
            cls._instance._job_info = _read()
        return cls._instance

    @property
    def jobinfo(self):
        return self._job_info

    def size(self):
        return self._job_info._rank_size


def _read():
    job_id = os.environ.get('JOB_ID', '')
    if not job_id:
        return None
    identity = os.environ.get('POD_NAME') or os.environ.get('RANK_ID', '')
    return JobInfo(
        job_id,
        DeviceInfo(identity),
        os.environ.get('LOCAL_CHECKPOINT_DIR', ''),
        environment.rank_size(),
    )
