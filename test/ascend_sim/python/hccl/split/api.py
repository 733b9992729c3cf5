"""hccl.split.api: how gradients are cut into segments for the all-reduce. HCCL need not be
initialised.

Differs: what was set is kept in ascend_sim.device.split ({group: ('idx' or 'size', list)}) for
tests to read; it changes nothing else but that the last index is checked against the number of
gradients at the first training step.
"""

from ascend_sim import device

_MOST = 8


def _check(group, values, name, types):
    if not isinstance(group, str):
        raise TypeError('Group must be a python str')
    if not 0 < len(group) <= 127:
        raise ValueError('Group name len is out of range 127')
    if not isinstance(values, list):
        raise TypeError('%s must be a python list' % name)
    if not values:
        raise ValueError('%s length is 0' % name)
    if not all(isinstance(value, types) and not isinstance(value, bool) for value in values):
        raise TypeError('an item of %s is invalid' % name)


def set_split_strategy_by_idx(idxList, group='hccl_world_group'):
    """idxList: last gradient of each segment, ascending; the last one is the last gradient of all."""
    _check(group, idxList, 'IdxList', int)
    if min(idxList) < 0:
        raise ValueError('Idx < 0')
    if len(idxList) > _MOST or any(first >= second for first, second in zip(idxList, idxList[1:])):
        raise RuntimeError('Allreduce split error')
    if device.split.get(group, ('idx',))[0] == 'idx':  # a split by size wins
        device.split[group] = ('idx', list(idxList))


def set_split_strategy_by_size(dataSizeList, group='hccl_world_group'):
    """dataSizeList: share of each segment in percent; together 100."""
    _check(group, dataSizeList, 'DataSizeList', (int, float))
    if len(dataSizeList) > _MOST or min(dataSizeList) < 0 or abs(sum(dataSizeList) - 100) > 1e-4:
        raise RuntimeError('Allreduce split error')
    device.split[group] = ('size', list(dataSizeList))
