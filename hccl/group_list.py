"""Rules of the two kinds of rank table without a version: cloud tables, which HCCL numbers itself,
and lab tables (with "deploy_mode"), in which each device is an instance of its own.
"""

from typing import List

from hccl.table_fields import Fields, Violations

CLOUD_DEVICE_ID = 7  # the highest of a server


def check_groups(table: Fields, violations: Violations, largest_id: int) -> None:
    """Reads a group_list table. largest_id: the highest device_id of a server."""
    is_cloud = 'deploy_mode' not in table
    if not is_cloud:
        _check_location(table)
    groups = table.objects('group_list')
    words = 'groupList size[%(real)d] error, groupNum[%(told)s]'
    table.count('group_count', len(groups), words)
    for group in groups:
        group.name('group_name')
        instances = group.objects('instance_list')
        devices = [instance.objects('devices') for instance in instances]
        words = 'check instanceNum[%(told)s] or devNum error, checkInstance[%(real)d]'
        group.count('instance_count', len(instances), words)
        if is_cloud:
            words = 'check instanceNum or devNum[%(told)s] error, checkDev[%(real)d]'
            group.count('device_count', sum(map(len, devices)), words)
        else:
            _check_lab_counts(group, instances)
        for instance, own in zip(instances, devices):
            if is_cloud:
                _read_pod(instance, own, violations, len(instances) > 1)
            else:
                _read_lab_instance(instance, own, violations, largest_id)


def _check_location(table: Fields) -> None:
    location = table.text('para_plane_nic_location')
    if location not in (None, 'device'):
        words = "paraPlaneLocation should be 'device'"
        if location == 'host':
            words = 'host nic is unsupport'
        found = "found '%s'; write 'device'" % location
        table.bad('para_plane_nic_location', 'plog', words, found)


def _read_pod(
    instance: Fields, devices: List[Fields], violations: Violations, needs_address: bool
) -> None:
    server_id = instance.text('server_id')
    pod = instance.name('pod_name')
    for device in devices:
        if needs_address and device.text('device_ip'):
            address = device.text('device_ip')
            violations.check_address(address, device.location_of('device_ip'), 'device')
        # rank 0: ranks follow once all servers are known
        device.add_device(
            device.optional('device_ip') or '', 0, server_id, CLOUD_DEVICE_ID, pod or ''
        )


def _check_lab_counts(group: Fields, instances: List[Fields]) -> None:
    group.count('device_num', len(instances), 'instance num error')
    servers, devices = group.number('server_num'), len(instances)
    if servers is None:
        return
    named = len({instance.text('server_id') for instance in instances if 'server_id' in instance})
    if servers == 0:
        group.bad('server_num', 'plog', 'server num is zero', 'give the number of servers')
    elif devices % servers or devices // servers not in (1, 2, 4, 8, 16):
        words = 'device / server is invalid, uDeviceNum[%d], uServerNum[%d]' % (devices, servers)
        group.bad('server_num', 'plog', words, 'legal are 1, 2, 4, 8 or 16 devices a server')
    elif servers != named:
        words = 'The devices num in ranktable is invalid'
        found = "found '%d'; the instances name %d" % (servers, named)
        group.bad('server_num', 'EI0004', words, found)


def _read_lab_instance(
    instance: Fields, devices: List[Fields], violations: Violations, largest_id: int
) -> None:
    server_id = instance.text('server_id')
    words = 'The rankid in ranktable is invalid.'
    rank = instance.number('rank_id', words)
    if len(devices) > 1:
        found = '%d devices share one rank_id; give each an instance' % len(devices)
        instance.bad('devices', 'EI0004', words, found)
        violations.is_complete = False
    for device in devices:
        address = device.text('device_ip') or ''
        if address:
            violations.check_address(address, device.location_of('device_ip'), 'device')
        device.add_device(
            address, rank, server_id, largest_id, rank_location=instance.location_of('rank_id')
        )
