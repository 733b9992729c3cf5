"""Reads RANK_TABLE_FILE as HCCL does, version 1.0: written from HCCL's documents, not from the
product's reader, so that a table with a mistake that both sides of the product share fails here.
"""

import ipaddress
import json
import os
from typing import Any, Dict, List, Tuple

from ascend_sim.environment import Refused


def _bad(reason: str) -> Refused:
    return Refused('EI0004: The ranktable or rank is invalid,Reason:[%s].' % reason)


def _text(where: Dict[str, Any], name: str) -> str:
    if name not in where:
        raise _bad("Invalid ranktable format. '%s' is missing" % name)
    if not isinstance(where[name], str):
        raise _bad('%s property value of Name[%s] is not string!' % (name, name))
    return where[name]


def _number(where: Dict[str, Any], name: str) -> int:
    text = _text(where, name)
    if not text.isdigit():
        raise _bad("The '%s' in ranktable is invalid: '%s'" % (name, text))
    return int(text)


def _objects(where: Dict[str, Any], name: str) -> List[Dict[str, Any]]:
    value = where.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
        raise _bad("Invalid ranktable format. '%s' is not a list of objects" % name)
    return value


def _address(device: Dict[str, Any]) -> str:
    try:
        return str(ipaddress.ip_address(_text(device, 'device_ip')))
    except ValueError:
        raise _bad("The ip in ranktable is not a valid ip address: '%s'" % device['device_ip'])


def _unique(values, what: str) -> None:
    if len(set(values)) != len(values):
        raise _bad(what)


def read(path: str) -> List[int]:
    """Physical device of each rank, in the order of ranks; raises Refused (EI0004)."""
    try:
        with open(path, encoding='utf-8') as file:
            table = json.load(file)
    except (OSError, ValueError) as error:
        raise _bad('Invalid ranktable format. %s: %s' % (path, error))
    if not isinstance(table, dict) or _text(table, 'status') != 'completed':
        raise _bad("The 'status' in ranktable is invalid")
    if _text(table, 'version') != '1.0':
        raise _bad('Ranktable version is not supported')
    servers = _objects(table, 'server_list')
    if _number(table, 'server_count') != len(servers):
        raise _bad("The 'server_count' in ranktable is invalid.")
    found = [
        (_number(device, 'rank_id'), number, _number(device, 'device_id'), device)
        for number, server in enumerate(servers)
        for device in _objects(server, 'device')
    ]
    _unique([_text(server, 'server_id') for server in servers], "'server_id' is used repeatedly")
    _unique([item[1:3] for item in found], 'device id repeat for one server')
    # One server needs no addresses; HCCL checks those that are there.
    ips = [_address(item[3]) for item in found if len(servers) > 1 or 'device_ip' in item[3]]
    _unique(ips, 'The IP is used repeatedly.')
    if max(item[2] for item in found) > 7:
        raise _bad('device_id[%d] more than 7 is invalid' % max(item[2] for item in found))
    devices = {rank: device for rank, _, device, _ in found}
    if sorted(devices) != list(range(len(found))):
        raise _bad('The rank ID is used repeatedly or the rank ID exceeds the max rankId.')
    if len({len(server['device']) for server in servers}) > 1:
        raise _bad('The devices num in ranktable is invalid')
    return [devices[rank] for rank in range(len(found))]


def find(path: str, device: int) -> Tuple[int, int]:
    """(number of ranks, this process's own rank) by RANK_ID, which must fit the device that the
    process drives; raises Refused.
    """
    if not path.endswith('.json'):
        raise _bad('the file name of the ranktable must end with .json: %s' % path)
    devices, own = read(path), os.environ.get('RANK_ID', '')
    if not own:
        raise Refused("[GePlugin] Can't find rank_id or pod_name in env.")
    if not own.isdigit() or int(own) >= len(devices):
        raise _bad('rank_id[%s] is invalid, the ranktable has %d ranks' % (own, len(devices)))
    if devices[int(own)] != device:
        raise _bad(
            'The ranktable config devId is inconsistent with the local devId.: rank %s has'
            ' device_id %d there, this process drives device %d' % (own, devices[int(own)], device)
        )
    return len(devices), int(own)
