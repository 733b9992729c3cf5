"""hccl.split.api: how gradients are cut into segments for the all-reduce. HCCL need not be
initialised.

What was set is kept in ascend_sim.device.split for tests to read; the last index is checked against
the number of gradients at the first training step.
"""

from ascend_sim import device


def _check(values, name, types):
    if not isinstance(values, list):
        raise TypeError('%s must be a python list' % name)
    if not values:
        raise ValueError('%s length is 0' % name)
    if not all(isinstance(value, types) and not isinstance(value, bool) for value in values):
        raise TypeError('an item of %s is invalid' % name)
    if len(values) > 8:
        raise RuntimeError('Allreduce split error')


def set_split_strategy_by_idx(idxList, group='hccl_world_group'):
    """idxList: last gradient of each segment, ascending, to the last gradient of all."""
    _check(idxList, 'IdxList', int)
    if min(idxList) < 0:
        raise ValueError('Idx < 0')
    if any(first >= second for first, second in zip(idxList, idxList[1:])):
        raise RuntimeError('Allreduce split error')
    if device.split.get(group, ('idx',))[0] == 'idx':  # a split by size wins
        device.split[group] = ('idx', list(idxList))


def set_split_strategy_by_size(dataSizeList, group='hccl_world_group'):
    """dataSizeList: share of each segment in percent; together 100."""
    _check(dataSizeList, 'DataSizeList', (int, float))
    if min(dataSizeList) < 0 or abs(sum(dataSizeList) - 100) > 1e-4:
        raise RuntimeError('Allreduce split error')
    device.split[group] = ('size', list(dataSizeList))
