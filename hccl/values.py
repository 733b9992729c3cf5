"""Values of a rank table, fetched from its JSON; each fetch says in HCCL's words what is wrong with
the value.
"""

import json
import re
import socket
from typing import Any, Dict, List, Optional, Tuple

Item = Dict[str, Any]


class Values:
    """Collects `violations`, one line each; `whole` is False once a device or its server is
    unknown.
    """

    def __init__(self):
        self.violations: List[str] = []
        self.whole = True
        self._seen: Dict[
            Tuple[str, str], str
        ] = {}  # (kind, value) -> place, of what must be unique
        self._families: Dict[str, int] = {}

    def bad(self, place: str, code: str, words: str, found: str) -> None:
        """code: HCCL's error code, or plog for words that only HCCL's log has, or whose rule it is
        if HCCL has no words.
        """
        self.violations.append(
            '%s: %s%s: %s' % (place or 'table', code, ' "%s"' % words if words else '', found)
        )

    def strings(self, value: Any, place: str, name: str) -> None:
        """Every scalar below `value` is a string."""
        if isinstance(value, dict):
            for key, item in value.items():
                self.strings(item, join(place, key), key)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self.strings(item, '%s[%d]' % (place, index), name)
        elif not isinstance(value, str):
            text = json.dumps(value)
            self.bad(
                place,
                'plog',
                'json object property value of Name[%s] is not string!' % name,
                'found %s; write "%s"' % (text, text),
            )

    def text(self, item: Item, place: str, key: str) -> Optional[str]:
        if key not in item:
            self.bad(place, 'plog', 'json object has no property called %s' % key, 'give it')
        return (
            item[key] if isinstance(item.get(key), str) else None
        )  # another type is reported by strings()

    def number(self, item: Item, place: str, key: str, words: str = '') -> Optional[int]:
        text = self.text(item, place, key)
        if text is None or re.fullmatch('[0-9]+', text):
            return text and int(text)
        self.bad(
            join(place, key),
            'EI0004' if words else 'HCCL',
            words,
            "expected digits, found '%s'" % text,
        )
        return None

    def count(
        self, item: Item, place: str, key: str, real: int, words: str, code: str = 'plog'
    ) -> None:
        """`key` holds the number `real`; words: HCCL's, with %(told)s and %(real)d."""
        text = self.text(item, place, key)
        if text is not None and not (re.fullmatch('[0-9]+', text) and int(text) == real):
            self.bad(
                join(place, key),
                code,
                words % {'told': text, 'real': real},
                "found '%s', and there are %d" % (text, real),
            )

    def items(self, item: Item, place: str, key: str) -> List[Tuple[str, Item]]:
        """(place, entry) of each entry of a list."""
        where, value = join(place, key), item.get(key)
        if key not in item:
            self.bad(place, 'plog', 'json object has no property called %s' % key, 'give it')
        elif not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self.bad(where, 'EI0004', 'Invalid ranktable format.', 'expected a list of {...}')
        elif not value:
            self.bad(where, 'plog', 'get property[%s] size is zero' % key, 'give at least one')
        else:
            return [('%s[%d]' % (where, index), entry) for index, entry in enumerate(value)]
        self.whole = False
        return []

    def name(self, item: Item, place: str, key: str) -> Optional[str]:
        """A string of at most 64 characters that stands in no other place under this key."""
        text = self.text(item, place, key)
        if text is not None:
            if len(text) > 64:
                self.bad(
                    join(place, key),
                    'plog',
                    'Name[%s] length[%d] is too long' % (text, len(text)),
                    'at most 64 characters',
                )
            self._unique(key, text, join(place, key))
        return text

    def address(
        self,
        text: str,
        place: str,
        kind: str,
        words: str = 'The ip in ranktable is not a valid ip address',
    ) -> None:
        """An IPv4 or IPv6 address, of one family for all of its kind ('device', 'host'); a device's
        is unique.
        """
        family = _family(text)
        if family is None:
            self.bad(place, 'EI0004', words, "found '%s'" % text)
            return
        if kind == 'device':
            self._unique('device_ip', text, place)
        first = self._families.setdefault(kind, family)
        if first != family:
            self.bad(
                place,
                'EI0001',
                '%s ip family[%d] is not same with others[%d].' % (kind, family, first),
                "'%s': IPv4 and IPv6 are mixed; take one of them" % text,
            )

    def _unique(self, kind: str, value: str, place: str) -> None:
        if (kind, value) in self._seen:  # HCCL has one sentence for addresses and for names
            self.bad(
                place,
                'EI0004',
                'The IP is used repeatedly.',
                "'%s' stands in %s too" % (value, self._seen[kind, value]),
            )
            self.whole = (
                self.whole and kind == 'device_ip'
            )  # two servers of one name cannot be told apart
        self._seen.setdefault((kind, value), place)


def join(place: str, key: str) -> str:
    return '%s.%s' % (place, key) if place else key


def _family(text: str) -> Optional[int]:
    """AF_INET or AF_INET6; None if the text is no address. inet_pton is what HCCL asks too."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
            return int(family)
        except (OSError, ValueError):
            pass
    return None
