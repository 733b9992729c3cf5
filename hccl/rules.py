"""Reads a rank table as HCCL does and says what HCCL would refuse, in HCCL's own words and with the
location in the file.

HCCL itself stops at the first error, minutes into the start, and writes most of these words to its
plog files only. Source: cann-hccl, framework/common/src/topo (topoinfo_ranktable*.cc), config.cc.
"""

import os
from typing import Any, Dict, List, Optional, Tuple, Union

from common.errors import UserError, suggest
from common.files import parse_json
from hccl.group_list import check_groups
from hccl.table_fields import FORMAT, Device, Fields, Violations

CHIPS = {'910A': 7, '910B': 15}  # highest device_id of a server
VERSIONS = ('1.0', '1.2')
_RANK = 'The rankid in ranktable is invalid. Please check ranktable'
_RANK_SEQUENCE = 'The rank ID is used repeatedly or the rank ID exceeds the max rankId.'
_DEVICE_REPEAT = 'device id repeat for one server. Please check ranktable'

Table = Union[str, os.PathLike, Dict[str, Any]]


def violations(table: Table, chip: str = '910A') -> List[str]:
    """One line for each rule that a table (a file, or its parsed content) breaks; [] if HCCL takes
    it.

    A line is `location: CODE "HCCL's words": what was found`; CODE is HCCL's error code, or plog
    for words that only its log has.
    """
    return read(table, chip)[1]


def read(table: Table, chip: str = '910A') -> Tuple[List[Device], List[str]]:
    """The devices in order of rank, and the violations; the devices are complete only if there is
    no violation.
    """
    if chip not in CHIPS:
        raise UserError('chip %s: legal are %s%s' % (chip, ', '.join(CHIPS), suggest(chip, CHIPS)))
    found = Violations()
    try:
        document = table if isinstance(table, dict) else _read_file(os.fspath(table), found)
        if document is not None:
            found.check_strings(document, '', '')
            _check_table(Fields(document, '', found), found, chip)
    except RecursionError:
        found.add('', 'EI0004', FORMAT, 'it is nested too deeply')
    if found.is_complete and found.devices:
        _check_together(found, chip)
    if not found.lines and not found.devices:
        found.add('', 'EI0004', FORMAT, 'it has no devices')
    return sorted(found.devices, key=lambda device: device.rank_id), found.lines


def is_json_name(path: str) -> bool:
    """Whether HCCL reads a file of this name: the first '.json' in it must be its end."""
    return path.endswith('.json') and path.count('.json') == 1


def _read_file(path: str, found: Violations) -> Optional[Dict[str, Any]]:
    if not is_json_name(path):
        words = 'path %s is not a valid .json file' % path
        found.add('', 'plog', words, "the path must end in '.json' and hold it only once")
    try:
        with open(path, encoding='utf-8') as file:
            document = parse_json(file.read())
    except OSError as error:
        raise UserError(
            'rank table %s: %s; python -m hccl.rank_table generate makes one'
            % (path, error.strerror)
        )
    except ValueError as error:
        found.add('', 'EI0004', FORMAT, 'not JSON, %s (JSON has no comments)' % error)
        return None
    if not isinstance(document, dict):
        kind = type(document).__name__
        found.add('', 'EI0004', FORMAT, 'expected {...}, found a %s' % kind)
        return None
    return document


def _check_table(table: Fields, found: Violations, chip: str) -> None:
    status = table.text('status')
    if status not in (None, 'completed'):
        wait = (
            "found '%s': HCCL reads the file every second, for 30 minutes, until it is 'completed'"
        )
        table.bad('status', 'plog', 'Load ranktable file timeout[1800]s', wait % status)
    if 'version' not in table and 'server_list' in table and 'group_list' not in table:
        words = 'json object has no property called group_list'
        table.bad('version', 'plog', words, 'a server_list needs "version": "1.0"')
        return
    if 'version' not in table:
        check_groups(table, found, CHIPS[chip])
        return
    version = table.text('version')
    if version in VERSIONS:
        _check_servers(table, found, chip)
    elif version == '1.1':
        fix = "'1.1' describes CPUs and parameter servers; write '1.0'"
        table.bad('version', 'HCCL', '', fix)
    elif version is not None:
        words = 'Ranktable version is not supported'
        legal = "legal are '1.0', '1.2', or no version with a group_list"
        table.bad('version', 'EI0004', words, "found '%s'; %s" % (version, legal))


def _check_servers(table: Fields, found: Violations, chip: str) -> None:
    """Version 1.0 and 1.2: a server_list."""
    servers = table.objects('server_list')
    if servers and 'server_count' in table:
        words = "The 'server_count' in ranktable is invalid."
        table.count('server_count', len(servers), words, 'EI0004')
    hosts = [server.location for server in servers if 'host_ip' in server]
    if hosts and len(hosts) < len(servers):
        words = 'hostIp config bettewn ranks is different.'
        fix = 'host_ip only in %s; give it to all servers or to none' % ', '.join(hosts)
        table.bad('server_list', 'plog', words, fix)
    needs_address = len(servers) > 1 or os.environ.get('HCCL_INTRA_ROCE_ENABLE') == '1'
    for server in servers:
        server_id = server.name('server_id')
        if server_id == '':
            server.bad('server_id', 'plog', 'serverId[] is empty', 'give a name or an address')
        host = server.optional('host_ip')
        if 'host_ip' in server and host is not None:
            words = 'The ips in ranktable is invalid'
            found.check_address(host, server.location_of('host_ip'), 'host', words)
        for device in server.objects('device'):
            rank = device.number('rank_id', _RANK)
            address = ''
            if 'host_ip' not in server:
                address = _device_addresses(device, found, needs_address)
            device.add_device(address, rank, server_id, CHIPS[chip])


def _device_addresses(device: Fields, found: Violations, is_needed: bool) -> str:
    text = device.optional('device_ip')
    if text == '' and is_needed:
        words = "The 'device_ip' in ranktable is not set or is not a valid ip address."
        why = 'with several servers, and with HCCL_INTRA_ROCE_ENABLE=1, every device needs one'
        device.bad('device_ip', 'EI0004', words, why)
    if not text:
        return ''
    addresses = text.split(',')
    for address in addresses:
        found.check_address(address, device.location_of('device_ip'), 'device')
    first = found.devices[0].device_ip.count(',') + 1 if found.devices else len(addresses)
    if first != len(addresses):
        location = len(found.devices), len(addresses), first
        words = 'device[%d] size[%d] neq first device size[%d] error' % location
        device.bad('device_ip', 'plog', words, 'give every device the same number of addresses')
    return text


def _check_together(found: Violations, chip: str) -> None:
    """What no device breaks alone: repeated numbers, gaps in the ranks, links of the 910A."""
    devices = found.devices
    servers: Dict[str, List[Device]] = {}
    for device in devices:
        servers.setdefault(device.server_id, []).append(device)
    for own in servers.values():
        locations = [(device.device_id, device.location + '.device_id') for device in own]
        _check_repeats(locations, _DEVICE_REPEAT, found)
    if devices[0].pod_name is not None:  # HCCL numbers cloud tables itself
        devices.sort(
            key=lambda device: (device.server_id.encode('utf-8', 'surrogatepass'), device.device_id)
        )
        devices[:] = [device._replace(rank_id=rank) for rank, device in enumerate(devices)]
    _check_repeats(
        [(device.rank_id, device.rank_location) for device in devices], _RANK_SEQUENCE, found
    )
    for device in devices:
        if device.rank_id >= len(devices):
            text = "found '%d'; %d devices have the ranks 0 to %d"
            text %= device.rank_id, len(devices), len(devices) - 1
            found.add(device.rank_location, 'EI0004', _RANK_SEQUENCE, text)
    if chip == '910A':
        _check_links(servers, found)


def _check_repeats(numbers: List[Tuple[int, str]], words: str, found: Violations) -> None:
    """numbers: (number, its location)"""
    first: Dict[int, str] = {}
    for number, location in numbers:
        if number in first:
            found.add(location, 'EI0004', words, "'%d' is also in %s" % (number, first[number]))
        first.setdefault(number, location)


def _check_links(servers: Dict[str, List[Device]], found: Violations) -> None:
    if len({len(devices) for devices in servers.values()}) > 1:
        sizes = ', '.join('%s has %d' % (name, len(devices)) for name, devices in servers.items())
        words = 'The devices num in ranktable is invalid'
        found.add('table', 'EI0004', words, sizes + '; give every server the same number')
    for devices in servers.values():
        ids = sorted(device.device_id for device in devices)
        if ids[0] < 4 <= ids[-1] and len(devices) < 8:
            text = 'devices %s: 0-3 and 4-7 are two rings; take devices of one of them, or all of'
            location = devices[0].location.rpartition('[')[0]
            found.add(location, '910A', '', text % ','.join(map(str, ids)) + ' 0-7')
