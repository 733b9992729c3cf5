"""Reads the objects of a rank table's JSON field by field, and collects what HCCL would refuse.

A violation is CODE "HCCL's words": what was found. CODE is HCCL's error code; plog for words that
only its log has; where HCCL has no words, whose rule it is.
"""

import json
import re
import socket
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

FORMAT = 'EI0004 "Invalid ranktable format.": '
_BAD_ADDRESS = {
    'device': 'EI0004 "The ip in ranktable is not a valid ip address"',
    'host': 'EI0004 "The ips in ranktable is invalid"',
}


class Device(NamedTuple):
    """One device of a table. device_id: physical number on its server; device_ip: '' if there is
    none; pod_name: only in cloud tables; location and rank_location: where they stand in the file.
    """

    device_id: int
    device_ip: str
    rank_id: int
    server_id: str
    pod_name: Optional[str]
    location: str
    rank_location: str


def by_server(devices: List[Device]) -> Dict[str, List[Device]]:
    """{server_id: its devices}, servers in the order of their first device."""
    servers: Dict[str, List[Device]] = {}
    for device in devices:
        servers.setdefault(device.server_id, []).append(device)
    return servers


class Findings:
    """What reading a table has found. lines: the rules that it breaks; is_complete: every device
    and its server could be read.
    """

    def __init__(self):
        self.lines: List[str] = []
        self.devices: List[Device] = []
        self.is_complete = True
        self._first_locations: Dict[Tuple[str, str], str] = {}
        self._families: Dict[str, int] = {}

    def add(self, location: str, violation: str) -> None:
        line = '%s: %s' % (location or 'table', violation)
        printable = line.encode('utf-8', 'backslashreplace').decode()
        self.lines.append(re.sub(r'[\x00-\x1f\x7f]', '?', printable))

    def check_strings(self, value: Any, location: str = '', name: str = '') -> None:
        """Every scalar below `value` must be a string."""
        if isinstance(value, dict):
            for key, item in value.items():
                self.check_strings(item, _join(location, key), key)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.check_strings(item, '%s[%d]' % (location, index), name)
        elif not isinstance(value, str):
            text = json.dumps(value)
            rule = 'plog "json object property value of Name[%s] is not string!": ' % name
            self.add(location, rule + 'found %s; write "%s"' % (text, text))

    def check_unique(self, kind: str, value: str, location: str) -> None:
        first = self._first_locations.get((kind, value))
        if first is None:
            self._first_locations[kind, value] = location
            return
        # HCCL has one sentence for addresses and for names.
        rule = 'EI0004 "The IP is used repeatedly."'
        self.add(location, "%s: '%s' is also in %s" % (rule, value, first))
        if kind != 'device_ip':  # two servers of one name cannot be told apart
            self.is_complete = False

    def check_address(self, text: str, location: str, kind: str = 'device') -> None:
        """An IPv4 or IPv6 address, of one family for all of its kind ('device', 'host'); a device's
        is unique.
        """
        family = _family(text)
        if family is None:
            self.add(location, "%s: found '%s'" % (_BAD_ADDRESS[kind], text))
            return
        if kind == 'device':
            self.check_unique('device_ip', text, location)
        first = self._families.setdefault(kind, family)
        if first != family:
            self.add(
                location,
                'EI0001 "%s ip family[%d] is not same with others[%d].": \'%s\': IPv4 and IPv6 are'
                ' mixed; give addresses of one kind' % (kind, family, first, text),
            )


class Fields:
    """One JSON object of the table. location: where it stands, '' for the table itself."""

    def __init__(self, item: Dict[str, Any], location: str, findings: Findings):
        self._item = item
        self.location = location
        self.findings = findings

    def __contains__(self, key: str) -> bool:
        return key in self._item

    def location_of(self, key: str) -> str:
        return _join(self.location, key)

    def refuse(self, key: str, violation: str) -> None:
        self.findings.add(self.location_of(key), violation)

    def _require(self, key: str) -> bool:
        if key not in self:
            rule = 'plog "json object has no property called %s": give it'
            self.findings.add(self.location, rule % key)
        return key in self

    def text(self, key: str) -> Optional[str]:
        """The string under a key; None and a violation if it is missing or of another type."""
        return self.optional(key) if self._require(key) else None

    def optional(self, key: str) -> Optional[str]:
        """As text(), but '' without the key."""
        value = self._item.get(key, '')
        if isinstance(value, str):
            return value
        if isinstance(value, (list, dict)):  # check_strings() reports numbers and the like
            kind = 'list' if isinstance(value, list) else 'mapping'
            self.refuse(key, FORMAT + 'expected a string, found a %s' % kind)
        return None

    def number(self, key: str, rule: str = 'HCCL') -> Optional[int]:
        """rule: HCCL's code and words for a value that is not a number."""
        text = self.text(key)
        if text is None:
            return None
        if re.fullmatch('[0-9]+', text):
            return int(text)
        self.refuse(key, "%s: expected digits, found '%s'" % (rule, text))
        return None

    def count(self, key: str, real: int, rule: str) -> None:
        """`key` must hold the number `real`. rule: HCCL's code and words, with %(told)s and
        %(real)d.
        """
        text = self.text(key)
        if text is not None and not (re.fullmatch('[0-9]+', text) and int(text) == real):
            rule %= {'told': text, 'real': real}
            self.refuse(key, "%s: found '%s', and there are %d" % (rule, text, real))

    def objects(self, key: str) -> List['Fields']:
        """The entries of a list of objects; [] and a violation if it is anything else or empty."""
        value = self._item.get(key)
        if not self._require(key):
            pass
        elif not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self.refuse(key, FORMAT + 'expected a list of {...}')
        elif not value:
            self.refuse(key, 'plog "get property[%s] size is zero": give at least one' % key)
        else:
            location = self.location_of(key) + '[%d]'
            return [Fields(item, location % i, self.findings) for i, item in enumerate(value)]
        self.findings.is_complete = False
        return []

    def name(self, key: str) -> Optional[str]:
        """A string of at most 64 characters that occurs only once under this key."""
        text = self.text(key)
        if text is not None:
            if len(text) > 64:
                rule = 'plog "Name[%s] length[%d] is too long": at most 64 characters'
                self.refuse(key, rule % (text, len(text)))
            self.findings.check_unique(key, text, self.location_of(key))
        return text

    def add_device(
        self,
        device_ip: str,
        rank: Optional[int],
        server_id: Optional[str],
        largest: int,
        pod: Optional[str] = None,
        rank_location: Optional[str] = None,
    ) -> None:
        """Notes this object as a device, or the table as incomplete. largest: legal device_id."""
        device_id = self.number('device_id')
        if device_id is not None and device_id > largest:
            rule = 'plog "device_id[%d] more than %d is invalid": ' % (device_id, largest)
            fix = 'give the number of the device on its server, 0 to %d' % largest
            self.refuse('device_id', rule + fix)
        elif None not in (device_id, rank, server_id):
            location = rank_location or self.location_of('rank_id')
            self.findings.devices.append(
                Device(device_id, device_ip, rank, server_id, pod, self.location, location)
            )
            return
        self.findings.is_complete = False


def _join(location: str, key: str) -> str:
    return '%s.%s' % (location, key) if location else key


def _family(text: str) -> Optional[int]:
    """AF_INET or AF_INET6; None if the text is not an address. HCCL asks inet_pton too."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
            return int(family)
        except (OSError, ValueError):
            pass
    return None
