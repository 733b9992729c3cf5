"""Reads a rank table as HCCL does and says what HCCL would refuse, in HCCL's own words and with the
place in the file.

HCCL itself stops at the first error, minutes into the start, and writes most of these words to its
plog files only.
Source: cann-hccl, framework/common/src/topo (topoinfo_ranktable*.cc) and config.cc.
"""

import json
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from common.errors import UserError, suggest
from hccl.values import Item, Values

CHIPS = {'910A': 7, '910B': 15}  # highest device_id of a server
RANK_SEQUENCE = 'The rank ID is used repeatedly or the rank ID exceeds the max rankId.'
DEVICE_REPEAT = 'device id repeat for one server. Please check ranktable'


class Device(NamedTuple):
    """One device of a table. device_id: physical number on its server; device_ip: '' if there is
    none; pod_name: only in cloud
    tables; place: where it stands in the file."""

    device_id: int
    device_ip: str
    rank_id: int
    server_id: str
    pod_name: Optional[str]
    place: str


def violations(table: Union[str, os.PathLike, Item], chip: str = '910A') -> List[str]:
    """One line for each rule that a table (a file, or its parsed content) breaks; [] if HCCL takes
    it.

    A line is `place: CODE "HCCL's words": what was found`; CODE is HCCL's error code, or plog for
    words that only its log has.
    """
    return read(table, chip)[1]


def read(
    table: Union[str, os.PathLike, Item], chip: str = '910A'
) -> Tuple[List[Device], List[str]]:
    """The devices in order of rank, and the violations; the devices are complete only if there is
    no violation.
    """
    if chip not in CHIPS:
        raise UserError('chip %s: legal are %s%s' % (chip, ', '.join(CHIPS), suggest(chip, CHIPS)))
    reader = _Reader(chip)
    document = table if isinstance(table, dict) else reader.file(os.fspath(table))
    if document is not None:
        reader.table(document)
    return sorted(reader.devices, key=lambda device: device.rank_id), reader.violations


class _Reader(Values):
    def __init__(self, chip: str):
        super().__init__()
        self.chip = chip
        self.devices: List[Device] = []

    def file(self, path: str) -> Optional[Item]:
        if path.find('.json') + len('.json') != len(
            path
        ):  # HCCL's own test: the first '.json' must be the end
            self.bad(
                path,
                'plog',
                'path %s is not a valid .json file' % path,
                "the path must end in '.json' and hold it only once",
            )
        try:
            with open(path, encoding='utf-8') as file:
                document = json.load(file)
        except OSError as error:
            self.bad(path, 'plog', 'open file %s failed' % path, error.strerror)
            return None
        except ValueError as error:
            self.bad(
                path,
                'EI0004',
                'Invalid ranktable format.',
                'no JSON, %s (JSON has no comments)' % error,
            )
            return None
        if not isinstance(document, dict):
            self.bad(
                path,
                'EI0004',
                'Invalid ranktable format.',
                'expected {...}, found a %s' % type(document).__name__,
            )
            return None
        return document

    def table(self, table: Item) -> None:
        self.strings(table, '', '')
        status = self.text(table, '', 'status')
        if status not in (None, 'completed'):
            self.bad(
                'status',
                'plog',
                'Load ranktable file timeout[1800]s',
                "found '%s': HCCL reads the file every second, for 30 minutes, until it is"
                " 'completed'" % status,
            )
        version = table.get('version')
        if 'version' not in table and 'server_list' in table and 'group_list' not in table:
            self.bad(
                'version',
                'plog',
                'json object has no property called group_list',
                'a server_list needs "version": "1.0"',
            )
        elif 'version' not in table:
            self._groups(table)
        elif version in ('1.0', '1.2'):
            self._servers(table)
        elif version == '1.1':
            self.bad(
                'version', 'HCCL', '', "'1.1' describes CPUs and parameter servers; write '1.0'"
            )
        elif isinstance(version, str):
            self.bad(
                'version',
                'EI0004',
                'Ranktable version is not supported',
                "found '%s'; legal are '1.0', '1.2', or no version with a group_list" % version,
            )
        self._together()

    # ------------------------------------------------------------------------------------------------- version 1.0: server_list

    def _servers(self, table: Item) -> None:
        servers = self.items(table, '', 'server_list')
        if servers and 'server_count' in table:
            self.count(
                table,
                '',
                'server_count',
                len(servers),
                "The 'server_count' in ranktable is invalid.",
                'EI0004',
            )
        hosts = [place for place, server in servers if 'host_ip' in server]
        if hosts and len(hosts) < len(servers):
            self.bad(
                'server_list',
                'plog',
                'hostIp config bettewn ranks is different.',
                'host_ip only in %s; give it to all servers or to none' % ', '.join(hosts),
            )
        needed = len(servers) > 1 or os.environ.get('HCCL_INTRA_ROCE_ENABLE') == '1'
        for place, server in servers:
            server_id = self.name(server, place, 'server_id')
            if server_id == '':
                self.bad(
                    place + '.server_id', 'plog', 'serverId[] is empty', 'give a name or an address'
                )
            if isinstance(server.get('host_ip'), str):
                self.address(
                    server['host_ip'], place + '.host_ip', 'host', 'The ips in ranktable is invalid'
                )
            for where, device in self.items(server, place, 'device'):
                rank = self.number(
                    device,
                    where,
                    'rank_id',
                    'The rankid in ranktable is invalid. Please check ranktable',
                )
                address = '' if 'host_ip' in server else self._device_ips(device, where, needed)
                self._add(device, where, address, rank, server_id, CHIPS[self.chip])

    def _device_ips(self, device: Item, place: str, needed: bool) -> str:
        text = device.get('device_ip', '')
        if text == '' and needed:
            self.bad(
                place + '.device_ip',
                'EI0004',
                "The 'device_ip' in ranktable is not set or is not a valid ip address.",
                'with several servers, and with HCCL_INTRA_ROCE_ENABLE=1, every device needs one',
            )
        if not text or not isinstance(text, str):
            return ''
        addresses = text.split(',')
        for address in addresses:
            self.address(address, place + '.device_ip', 'device')
        first = self.devices[0].device_ip.count(',') + 1 if self.devices else len(addresses)
        if first != len(addresses):
            self.bad(
                place + '.device_ip',
                'plog',
                'device[%d] size[%d] neq first device size[%d] error'
                % (len(self.devices), len(addresses), first),
                'give every device the same number of addresses',
            )
        return text

    # -------------------------------------------------------------------------------------- no version: group_list, of two kinds

    def _groups(self, table: Item) -> None:
        cloud = 'deploy_mode' not in table
        location = 'device' if cloud else self.text(table, '', 'para_plane_nic_location')
        if location not in (None, 'device'):
            words = (
                'host nic is unsupport'
                if location == 'host'
                else "paraPlaneLocation should be 'device'"
            )
            self.bad(
                'para_plane_nic_location', 'plog', words, "found '%s'; write 'device'" % location
            )
        groups = self.items(table, '', 'group_list')
        self.count(
            table,
            '',
            'group_count',
            len(groups),
            'groupList size[%(real)d] error, groupNum[%(told)s]',
        )
        for place, group in groups:
            self.name(group, place, 'group_name')
            instances = self.items(group, place, 'instance_list')
            members = [
                (where, instance, self.items(instance, where, 'devices'))
                for where, instance in instances
            ]
            self.count(
                group,
                place,
                'instance_count',
                len(instances),
                'check instanceNum[%(told)s] or devNum error, checkInstance[%(real)d]',
            )
            if cloud:
                self.count(
                    group,
                    place,
                    'device_count',
                    sum(len(devices) for _, _, devices in members),
                    'check instanceNum or devNum[%(told)s] error, checkDev[%(real)d]',
                )
            else:
                self._lab_counts(group, place, instances)
            for where, instance, devices in members:
                server_id = self.text(instance, where, 'server_id')
                if cloud:
                    self._pod(instance, where, devices, server_id, len(instances) > 1)
                else:
                    self._lab_instance(instance, where, devices, server_id)

    def _pod(
        self,
        instance: Item,
        place: str,
        devices: List[Tuple[str, Item]],
        server_id: Optional[str],
        several: bool,
    ) -> None:
        pod = self.name(instance, place, 'pod_name')
        for where, device in devices:
            if several and self.text(device, where, 'device_ip'):
                self.address(device['device_ip'], where + '.device_ip', 'device')
            self._add(
                device, where, str(device.get('device_ip', '')), 0, server_id, 7, pod or ''
            )  # _together gives the rank

    def _lab_counts(self, group: Item, place: str, instances: List[Tuple[str, Item]]) -> None:
        self.count(group, place, 'device_num', len(instances), 'instance num error')
        servers, devices = self.number(group, place, 'server_num'), len(instances)
        if servers == 0:
            self.bad(
                place + '.server_num', 'plog', 'server num is zero', 'give the number of servers'
            )
        elif servers and (devices % servers or devices // servers not in (1, 2, 4, 8, 16)):
            self.bad(
                place + '.server_num',
                'plog',
                'device / server is invalid, uDeviceNum[%d], uServerNum[%d]' % (devices, servers),
                'legal are 1, 2, 4, 8 or 16 devices a server',
            )
        elif servers and servers != len({instance.get('server_id') for _, instance in instances}):
            self.bad(
                place + '.server_num',
                'EI0004',
                'The devices num in ranktable is invalid',
                "found '%d'; the instances name %d"
                % (servers, len({instance.get('server_id') for _, instance in instances})),
            )

    def _lab_instance(
        self, instance: Item, place: str, devices: List[Tuple[str, Item]], server_id: Optional[str]
    ) -> None:
        rank = self.number(instance, place, 'rank_id', 'The rankid in ranktable is invalid.')
        if len(devices) > 1:
            self.bad(
                place + '.devices',
                'EI0004',
                'The rankid in ranktable is invalid.',
                '%d devices share one rank_id; give each an instance' % len(devices),
            )
            self.whole = False
        for where, device in devices:
            address = self.text(device, where, 'device_ip') or ''
            if address:
                self.address(address, where + '.device_ip', 'device')
            self._add(device, where, address, rank, server_id, CHIPS[self.chip])

    # ---------------------------------------------------------------------------------------------------------------- all kinds

    def _add(
        self,
        device: Item,
        place: str,
        address: str,
        rank: Optional[int],
        server_id: Optional[str],
        limit: int,
        pod: Optional[str] = None,
    ) -> None:
        device_id = self.number(device, place, 'device_id')
        if device_id is not None and device_id > limit:
            self.bad(
                place + '.device_id',
                'plog',
                'device_id[%d] more than %d is invalid' % (device_id, limit),
                'give the number of the device on its server, 0 to %d' % limit,
            )
        elif None not in (device_id, rank, server_id):
            self.devices.append(Device(device_id, address, rank, server_id, pod, place))
            return
        self.whole = False

    def _together(self) -> None:
        if not self.whole or not self.devices:
            return
        servers: Dict[str, List[Device]] = {}
        for device in self.devices:
            servers.setdefault(device.server_id, []).append(device)
        for devices in servers.values():
            self._repeated(devices, 'device_id', DEVICE_REPEAT)
        if (
            self.devices[0].pod_name is not None
        ):  # HCCL numbers cloud tables itself: by server_id, then by device_id
            ordered = sorted(
                self.devices, key=lambda device: (device.server_id.encode(), device.device_id)
            )
            self.devices = [device._replace(rank_id=rank) for rank, device in enumerate(ordered)]
        self._repeated(self.devices, 'rank_id', RANK_SEQUENCE)
        for device in self.devices:
            if device.rank_id >= len(self.devices):
                self.bad(
                    _place(device, 'rank_id'),
                    'EI0004',
                    RANK_SEQUENCE,
                    "found '%d'; %d devices have the ranks 0 to %d"
                    % (device.rank_id, len(self.devices), len(self.devices) - 1),
                )
        if self.chip == '910A':
            self._links(servers)

    def _repeated(self, devices: List[Device], key: str, words: str) -> None:
        places: Dict[Any, str] = {}
        for device in devices:
            value = getattr(device, key)
            if value in places:
                self.bad(
                    _place(device, key),
                    'EI0004',
                    words,
                    "'%d' stands in %s too" % (value, places[value]),
                )
            places.setdefault(value, _place(device, key))

    def _links(self, servers: Dict[str, List[Device]]) -> None:
        if len({len(devices) for devices in servers.values()}) > 1:
            self.bad(
                'table',
                'EI0004',
                'The devices num in ranktable is invalid',
                '%s; give every server the same number'
                % ', '.join(
                    '%s has %d' % (server_id, len(devices))
                    for server_id, devices in servers.items()
                ),
            )
        for devices in servers.values():
            ids = {device.device_id for device in devices}
            if min(ids) < 4 <= max(ids) and len(devices) < 8:
                self.bad(
                    re.sub(r'\[\d+\]$', '', devices[0].place),
                    '910A',
                    '',
                    'devices %s: 0-3 and 4-7 are two rings; take devices of one '
                    'of them, or all of 0-7' % ','.join(map(str, sorted(ids))),
                )


def _place(device: Device, key: str) -> str:
    """Where a device's value stands; a lab table has the rank one level above the device."""
    return '%s.%s' % (
        re.sub(r'\.devices\[\d+\]$', '', device.place) if key == 'rank_id' else device.place,
        key,
    )
