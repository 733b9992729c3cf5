"""Reads a rank table as HCCL does and says what HCCL would refuse, in HCCL's own words and with the
location in the file.

HCCL itself stops at the first error, minutes into the start, and writes most of these words to its
plog files only. Source: cann-hccl, framework/common/src/topo (topoinfo_ranktable*.cc), config.cc.
"""

import os
from typing import Any, Dict, List, Optional, Tuple, Union

from common.errors import UserError, suggest
from common.files import read_json
from hccl.table_fields import FORMAT, Device, Fields, Findings, by_server

CHIPS = {'910A': 7, '910B': 15}  # highest device_id of a server
CLOUD_DEVICE_ID = 7  # the same, in a cloud table
VERSIONS = ('1.0', '1.2')
_RANK_SEQUENCE = 'EI0004 "The rank ID is used repeatedly or the rank ID exceeds the max rankId."'
_DEVICE_COUNT = 'EI0004 "The devices num in ranktable is invalid"'

Table = Union[str, os.PathLike, Dict[str, Any]]


def violations(table: Table, chip: str = '910A') -> List[str]:
    """One line for each rule that a table (a file, or its parsed content) breaks; [] if HCCL takes
    it. A line is `location: CODE "HCCL's words": what was found`, see table_fields.
    """
    return read(table, chip)[1]


def read(table: Table, chip: str = '910A') -> Tuple[List[Device], List[str]]:
    """The devices in order of rank, and the violations; the devices are complete only if there is
    no violation.
    """
    if chip not in CHIPS:
        raise UserError('chip %s: legal are %s%s' % (chip, ', '.join(CHIPS), suggest(chip, CHIPS)))
    findings = Findings()
    try:
        document = table if isinstance(table, dict) else _read_file(os.fspath(table), findings)
        if document is not None:
            findings.check_strings(document)
            _check_table(Fields(document, '', findings), CHIPS[chip])
    except RecursionError:
        findings.add('', FORMAT + 'it is nested too deeply')
    if findings.is_complete and findings.devices:
        _check_together(findings, chip)
    if not findings.lines and not findings.devices:
        findings.add('', FORMAT + 'it has no devices')
    return sorted(findings.devices, key=lambda device: device.rank_id), findings.lines


def is_json_name(path: str) -> bool:
    """Whether HCCL reads a file of this name: the first '.json' in it must be its end."""
    return path.endswith('.json') and path.count('.json') == 1


def _read_file(path: str, findings: Findings) -> Optional[Dict[str, Any]]:
    if not is_json_name(path):
        rule = 'plog "path %s is not a valid .json file": ' % path
        findings.add('', rule + "the path must end in '.json' and hold it only once")
    try:
        document = read_json(path)
    except OSError as error:
        raise UserError(
            'rank table %s: %s; python -m hccl.rank_table generate makes one'
            % (path, error.strerror)
        )
    except ValueError as error:
        findings.add('', FORMAT + 'not JSON, %s (JSON has no comments)' % error)
        return None
    if not isinstance(document, dict):
        findings.add('', FORMAT + 'expected {...}, found a %s' % type(document).__name__)
        return None
    return document


def _check_table(table: Fields, largest: int) -> None:
    """largest: the highest device_id of a server."""
    status = table.text('status')
    if status not in (None, 'completed'):
        table.refuse(
            'status',
            'plog "Load ranktable file timeout[1800]s": found \'%s\': HCCL reads the file every'
            " second, for 30 minutes, until it is 'completed'" % status,
        )
    if 'version' not in table and 'server_list' in table and 'group_list' not in table:
        rule = 'plog "json object has no property called group_list": '
        table.refuse('version', rule + 'a server_list needs "version": "1.0"')
    elif 'version' not in table:
        _check_groups(table, largest)
    else:
        version = table.text('version')
        if version in VERSIONS:
            _check_servers(table, largest)
        elif version == '1.1':
            fix = "HCCL: '1.1' describes CPUs and parameter servers; write '1.0'"
            table.refuse('version', fix)
        elif version is not None:
            rule = 'EI0004 "Ranktable version is not supported": '
            legal = "found '%s'; legal are '1.0', '1.2', or no version with a group_list"
            table.refuse('version', rule + legal % version)


def _check_servers(table: Fields, largest: int) -> None:
    """Version 1.0 and 1.2: a server_list."""
    servers = table.objects('server_list')
    if servers and 'server_count' in table:
        rule = 'EI0004 "The \'server_count\' in ranktable is invalid."'
        table.count('server_count', len(servers), rule)
    hosts = [server.location for server in servers if 'host_ip' in server]
    if hosts and len(hosts) < len(servers):
        rule = 'plog "hostIp config bettewn ranks is different.": '
        fix = 'host_ip only in %s; give it to all servers or to none' % ', '.join(hosts)
        table.refuse('server_list', rule + fix)
    needs_address = len(servers) > 1 or os.environ.get('HCCL_INTRA_ROCE_ENABLE') == '1'
    for server in servers:
        server_id = server.name('server_id')
        if server_id == '':
            server.refuse('server_id', 'plog "serverId[] is empty": give a name or an address')
        host = server.optional('host_ip')
        if 'host_ip' in server and host is not None:
            table.findings.check_address(host, server.location_of('host_ip'), 'host')
        for device in server.objects('device'):
            rule = 'EI0004 "The rankid in ranktable is invalid. Please check ranktable"'
            rank = device.number('rank_id', rule)
            address = '' if 'host_ip' in server else _device_addresses(device, needs_address)
            device.add_device(address, rank, server_id, largest)


def _device_addresses(device: Fields, is_needed: bool) -> str:
    text, findings = device.optional('device_ip'), device.findings
    if text == '' and is_needed:
        device.refuse(
            'device_ip',
            'EI0004 "The \'device_ip\' in ranktable is not set or is not a valid ip address.": with'
            ' several servers, and with HCCL_INTRA_ROCE_ENABLE=1, every device needs one',
        )
    if not text:
        return ''
    addresses = text.split(',')
    for address in addresses:
        findings.check_address(address, device.location_of('device_ip'))
    first = findings.devices[0].device_ip.count(',') + 1 if findings.devices else len(addresses)
    if first != len(addresses):
        rule = 'plog "device[%d] size[%d] neq first device size[%d] error": '
        rule %= len(findings.devices), len(addresses), first
        device.refuse('device_ip', rule + 'give every device the same number of addresses')
    return text


def _check_groups(table: Fields, largest: int) -> None:
    """Without a version: a group_list, of a cloud, which HCCL numbers itself, or of a lab (with
    "deploy_mode"), in which each device is an instance of its own.
    """
    is_cloud = 'deploy_mode' not in table
    location = None if is_cloud else table.text('para_plane_nic_location')
    if location not in (None, 'device'):
        message = 'host nic is unsupport'
        if location != 'host':
            message = "paraPlaneLocation should be 'device'"
        fix = "plog \"%s\": found '%s'; write 'device'" % (message, location)
        table.refuse('para_plane_nic_location', fix)
    groups = table.objects('group_list')
    rule = 'plog "groupList size[%(real)d] error, groupNum[%(told)s]"'
    table.count('group_count', len(groups), rule)
    for group in groups:
        group.name('group_name')
        instances = group.objects('instance_list')
        devices = [instance.objects('devices') for instance in instances]
        rule = 'plog "check instanceNum[%(told)s] or devNum error, checkInstance[%(real)d]"'
        group.count('instance_count', len(instances), rule)
        if is_cloud:
            rule = 'plog "check instanceNum or devNum[%(told)s] error, checkDev[%(real)d]"'
            group.count('device_count', sum(map(len, devices)), rule)
        else:
            _check_lab_counts(group, instances)
        for instance, instance_devices in zip(instances, devices):
            if is_cloud:
                _read_pod(instance, instance_devices, len(instances) > 1)
            else:
                _read_lab_instance(instance, instance_devices, largest)


def _read_pod(instance: Fields, devices: List[Fields], needs_address: bool) -> None:
    server_id = instance.text('server_id')
    pod = instance.name('pod_name') or ''
    for device in devices:
        address = device.text('device_ip') if needs_address else device.optional('device_ip')
        if needs_address and address:
            device.findings.check_address(address, device.location_of('device_ip'))
        # rank 0: ranks follow once all servers are known
        device.add_device(address or '', 0, server_id, CLOUD_DEVICE_ID, pod)


def _check_lab_counts(group: Fields, instances: List[Fields]) -> None:
    group.count('device_num', len(instances), 'plog "instance num error"')
    servers, devices = group.number('server_num'), len(instances)
    if servers is None:
        return
    named = len({instance.text('server_id') for instance in instances if 'server_id' in instance})
    if servers == 0:
        group.refuse('server_num', 'plog "server num is zero": give the number of servers')
    elif devices % servers or devices // servers not in (1, 2, 4, 8, 16):
        rule = 'plog "device / server is invalid, uDeviceNum[%d], uServerNum[%d]": '
        fix = 'legal are 1, 2, 4, 8 or 16 devices a server'
        group.refuse('server_num', rule % (devices, servers) + fix)
    elif servers != named:
        problem = "%s: found '%d'; the instances name %d" % (_DEVICE_COUNT, servers, named)
        group.refuse('server_num', problem)


def _read_lab_instance(instance: Fields, devices: List[Fields], largest: int) -> None:
    server_id = instance.text('server_id')
    rule = 'EI0004 "The rankid in ranktable is invalid."'
    rank = instance.number('rank_id', rule)
    if len(devices) > 1:
        fix = '%s: %d devices share one rank_id; give each an instance' % (rule, len(devices))
        instance.refuse('devices', fix)
        instance.findings.is_complete = False
    for device in devices:
        address = device.text('device_ip') or ''
        if address:
            device.findings.check_address(address, device.location_of('device_ip'))
        rank_location = instance.location_of('rank_id')
        device.add_device(address, rank, server_id, largest, rank_location=rank_location)


def _check_together(findings: Findings, chip: str) -> None:
    """What no device breaks alone: repeated numbers, gaps in the ranks, links of the 910A."""
    devices = findings.devices
    servers = by_server(devices)
    for server_devices in servers.values():
        locations = [
            (device.device_id, device.location + '.device_id') for device in server_devices
        ]
        rule = 'EI0004 "device id repeat for one server. Please check ranktable"'
        _check_repeats(locations, rule, findings)
    if devices[0].pod_name is not None:  # HCCL numbers cloud tables itself
        devices.sort(
            key=lambda device: (device.server_id.encode('utf-8', 'surrogatepass'), device.device_id)
        )
        devices[:] = [device._replace(rank_id=rank) for rank, device in enumerate(devices)]
    ranks = [(device.rank_id, device.rank_location) for device in devices]
    _check_repeats(ranks, _RANK_SEQUENCE, findings)
    count = len(devices)
    for rank, location in ranks:
        if rank >= count:
            text = "%s: found '%d'; %d devices have the ranks 0 to %d"
            findings.add(location, text % (_RANK_SEQUENCE, rank, count, count - 1))
    if chip == '910A':
        _check_links(servers, findings)


def _check_repeats(numbers: List[Tuple[int, str]], rule: str, findings: Findings) -> None:
    """numbers: (number, its location)"""
    first: Dict[int, str] = {}
    for number, location in numbers:
        if number in first:
            findings.add(location, "%s: '%d' is also in %s" % (rule, number, first[number]))
        first.setdefault(number, location)


def _check_links(servers: Dict[str, List[Device]], findings: Findings) -> None:
    if len({len(devices) for devices in servers.values()}) > 1:
        sizes = ', '.join('%s has %d' % (name, len(devices)) for name, devices in servers.items())
        fix = '%s: %s; give every server the same number' % (_DEVICE_COUNT, sizes)
        findings.add('', fix)
    for devices in servers.values():
        ids = sorted(device.device_id for device in devices)
        if ids[0] < 4 <= ids[-1] and len(devices) < 8:
            text = (
                '910A: devices %s: 0-3 and 4-7 are two rings; take devices of one of them, or all'
                ' of 0-7' % ','.join(map(str, ids))
            )
            findings.add(devices[0].location.rpartition('[')[0], text)
