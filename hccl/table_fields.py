"""Reads the objects of a rank table's JSON field by field, and collects in HCCL's words what HCCL
would refuse.
"""

import json
import re
import socket
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

FORMAT = 'Invalid ranktable format.'
INVALID_ADDRESS = 'The ip in ranktable is not a valid ip address'


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


class Violations:
    """The rules that a table breaks, one line each. is_complete: every device and its server could
    be read.
    """

    def __init__(self):
        self.lines: List[str] = []
        self.devices: List[Device] = []
        self.is_complete = True
        self._first_locations: Dict[Tuple[str, str], str] = {}
        self._families: Dict[str, int] = {}

    def add(self, location: str, code: str, words: str, found: str) -> None:
        """code: HCCL's error code; plog for words that only its log has; where HCCL has no words,
        whose rule it is.
        """
        words = ' "%s"' % words if words else ''
        line = '%s: %s%s: %s' % (location or 'table', code, words, found)
        printable = line.encode('utf-8', 'backslashreplace').decode()
        self.lines.append(re.sub(r'[\x00-\x1f\x7f]', '?', printable))

    def check_strings(self, value: Any, location: str, name: str) -> None:
        """Every scalar below `value` must be a string."""
        if isinstance(value, dict):
            for key, item in value.items():
                self.check_strings(item, _join(location, key), key)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.check_strings(item, '%s[%d]' % (location, index), name)
        elif not isinstance(value, str):
            words = 'json object property value of Name[%s] is not string!' % name
            text = json.dumps(value)
            self.add(location, 'plog', words, 'found %s; write "%s"' % (text, text))

    def check_unique(self, kind: str, value: str, location: str) -> None:
        if (kind, value) in self._first_locations:
            found = "'%s' is also in %s" % (value, self._first_locations[kind, value])
            # HCCL has one sentence for addresses and for names
            self.add(location, 'EI0004', 'The IP is used repeatedly.', found)
            if kind != 'device_ip':  # two servers of one name cannot be told apart
                self.is_complete = False
        self._first_locations.setdefault((kind, value), location)

    def check_address(
        self, text: str, location: str, kind: str, words: str = INVALID_ADDRESS
    ) -> None:
        """An IPv4 or IPv6 address, of one family for all of its kind ('device', 'host'); a device's
        is unique.
        """
        family = _family(text)
        if family is None:
            self.add(location, 'EI0004', words, "found '%s'" % text)
            return
        if kind == 'device':
            self.check_unique('device_ip', text, location)
        first = self._families.setdefault(kind, family)
        if first != family:
            words = '%s ip family[%d] is not same with others[%d].' % (kind, family, first)
            found = "'%s': IPv4 and IPv6 are mixed; give addresses of one kind" % text
            self.add(location, 'EI0001', words, found)


class Fields:
    """One JSON object of the table. location: where it stands, '' for the table itself."""

    def __init__(self, item: Dict[str, Any], location: str, violations: Violations):
        self._item = item
        self._violations = violations
        self.location = location

    def __contains__(self, key: str) -> bool:
        return key in self._item

    def location_of(self, key: str) -> str:
        return _join(self.location, key)

    def bad(self, key: str, code: str, words: str, found: str) -> None:
        self._violations.add(self.location_of(key), code, words, found)

    def _missing(self, key: str) -> None:
        words = 'json object has no property called %s' % key
        self._violations.add(self.location, 'plog', words, 'give it')

    def text(self, key: str) -> Optional[str]:
        """The string under a key; None and a violation if it is missing or of another type."""
        if key not in self._item:
            self._missing(key)
            return None
        return self.optional(key)

    def optional(self, key: str) -> Optional[str]:
        """As text(), but '' without the key."""
        value = self._item.get(key, '')
        if isinstance(value, str):
            return value
        if isinstance(value, (list, dict)):  # check_strings() reports numbers and the like
            kind = 'list' if isinstance(value, list) else 'mapping'
            self.bad(key, 'EI0004', FORMAT, 'expected a string, found a %s' % kind)
        return None

    def number(self, key: str, words: str = '') -> Optional[int]:
        text = self.text(key)
        if text is None:
            return None
        if re.fullmatch('[0-9]+', text):
            return int(text)
        self.bad(key, 'EI0004' if words else 'HCCL', words, "expected digits, found '%s'" % text)
        return None

    def count(self, key: str, real: int, words: str, code: str = 'plog') -> None:
        """`key` must hold the number `real`; words: HCCL's, with %(told)s and %(real)d."""
        text = self.text(key)
        if text is not None and not (re.fullmatch('[0-9]+', text) and int(text) == real):
            found = "found '%s', and there are %d" % (text, real)
            self.bad(key, code, words % {'told': text, 'real': real}, found)

    def objects(self, key: str) -> List['Fields']:
        """The entries of a list of objects; [] and a violation if it is anything else or empty."""
        value = self._item.get(key)
        if key not in self._item:
            self._missing(key)
        elif not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self.bad(key, 'EI0004', FORMAT, 'expected a list of {...}')
        elif not value:
            self.bad(key, 'plog', 'get property[%s] size is zero' % key, 'give at least one')
        else:
            location = self.location_of(key)
            return [
                Fields(entry, '%s[%d]' % (location, index), self._violations)
                for index, entry in enumerate(value)
            ]
        self._violations.is_complete = False
        return []

    def name(self, key: str) -> Optional[str]:
        """A string of at most 64 characters that occurs only once under this key."""
        text = self.text(key)
        if text is not None:
            if len(text) > 64:
                words = 'Name[%s] length[%d] is too long' % (text, len(text))
                self.bad(key, 'plog', words, 'at most 64 characters')
            self._violations.check_unique(key, text, self.location_of(key))
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
            words = 'device_id[%d] more than %d is invalid' % (device_id, largest)
            found = 'give the number of the device on its server, 0 to %d' % largest
            self.bad('device_id', 'plog', words, found)
        elif None not in (device_id, rank, server_id):
            location = rank_location or self.location_of('rank_id')
            self._violations.devices.append(
                Device(device_id, device_ip, rank, server_id, pod, self.location, location)
            )
            return
        self._violations.is_complete = False


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
