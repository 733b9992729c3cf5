"""Reads RANK_TABLE_FILE as HCCL does: version 1.0/1.2 and the old group_list tables (cloud and
lab).

Differs from the real thing: a table whose status stays "initializing" is given up after the connect
timeout instead of 30 minutes, and RANK_SIZE must equal the number of ranks (the real adapter would
divide the gradients by the wrong number).
"""

import ipaddress
import json
import os
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ascend_sim import environment
from ascend_sim.environment import Refused


class Rank(NamedTuple):
    rank: int
    server: str
    device: int  # physical id
    ips: List[str]


def _bad(reason: str) -> Refused:
    return Refused('EI0004: The ranktable or rank is invalid,Reason:[%s].' % reason)


def _text(where: Dict[str, Any], name: str, optional: bool = False) -> Optional[str]:
    if name not in where:
        if optional:
            return None
        raise _bad("Invalid ranktable format. '%s' is missing" % name)
    if not isinstance(where[name], str):
        raise _bad('%s property value of Name[%s] is not string!' % (name, name))
    return where[name]


def _number(where: Dict[str, Any], name: str) -> int:
    text = _text(where, name)
    if not text.isdigit():
        raise _bad("The '%s' in ranktable is invalid: '%s'" % (name, text))
    return int(text)


def _list(where: Dict[str, Any], name: str) -> List[Dict[str, Any]]:
    value = where.get(name)
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(item, dict) for item in value)
    ):
        raise _bad("Invalid ranktable format. '%s' is not a list of objects" % name)
    return value


def _count(where: Dict[str, Any], name: str, found: int, optional: bool = False) -> None:
    if (name in where or not optional) and _number(where, name) != found:
        raise _bad("The '%s' in ranktable is invalid." % name)


def _ips(device: Dict[str, Any], needed: bool) -> List[str]:
    text = _text(device, 'device_ip', optional=True)
    if not text:
        if needed:
            raise _bad("The 'device_ip' in ranktable is not set or is not a valid ip address.")
        return []
    for ip in text.split(','):
        try:
            ipaddress.ip_address(ip)
        except ValueError:
            raise _bad("The ip in ranktable is not a valid ip address: '%s'" % ip)
    return text.split(',')


def _device_id(device: Dict[str, Any]) -> int:
    number, most = _number(device, 'device_id'), 7 if environment.first_generation() else 15
    if number > most:
        raise _bad('device_id[%d] more than %d is invalid' % (number, most))
    return number


def _concise(table: Dict[str, Any]) -> List[Rank]:
    servers = _list(table, 'server_list')
    _count(table, 'server_count', len(servers), optional=True)
    needed = len(servers) > 1 or os.environ.get('HCCL_INTRA_ROCE_ENABLE') == '1'
    ranks = []
    for server in servers:
        name = _text(server, 'server_id')
        if not 0 < len(name) <= 64:
            raise _bad("The 'server_id' in ranktable is invalid.")
        if any(rank.server == name for rank in ranks):
            raise _bad("The 'server_id' in ranktable is used repeatedly: '%s'" % name)
        ranks += [
            Rank(_number(device, 'rank_id'), name, _device_id(device), _ips(device, needed))
            for device in _list(server, 'device')
        ]
    if (
        environment.first_generation()
        and len(
            {sum(rank.server == name for rank in ranks) for name in {rank.server for rank in ranks}}
        )
        > 1
    ):
        raise _bad('The devices num in ranktable is invalid')
    ranks.sort()
    if [rank.rank for rank in ranks] != list(range(len(ranks))):
        raise _bad('The rank ID is used repeatedly or the rank ID exceeds the max rankId.')
    return ranks


def _standard(table: Dict[str, Any]) -> List[Rank]:
    """Tables without "version": ranks follow server_id, then device_id (cloud), or rank_id (lab:
    has "deploy_mode").
    """
    groups = _list(table, 'group_list')
    _count(table, 'group_count', len(groups))
    lab = 'deploy_mode' in table
    if lab and table.get('para_plane_nic_location') != 'device':
        raise _bad("The 'para_plane_nic_location' in ranktable is invalid, it must be device")
    found, pods = [], []
    for group in groups:
        instances = _list(group, 'instance_list')
        _count(group, 'instance_count', len(instances))
        _count(
            group,
            'device_num' if lab else 'device_count',
            sum(len(_list(item, 'devices')) for item in instances),
        )
        if lab:
            _count(group, 'server_num', len({_text(item, 'server_id') for item in instances}))
        for instance in instances:
            pods.append(_text(instance, 'pod_name', optional=lab))
            for device in instance['devices']:
                found.append(
                    (
                        _number(instance, 'rank_id') if lab else 0,
                        _text(instance, 'server_id'),
                        _device_id(device),
                        _ips(device, True),
                    )
                )
    if not lab and len(set(pods)) != len(pods):
        raise _bad("The 'pod_name' in ranktable is used repeatedly.")
    found.sort()
    ranks = [Rank(index, *item[1:]) for index, item in enumerate(found)]
    if lab and [item[0] for item in found] != list(range(len(found))):
        raise _bad('The rank ID is used repeatedly or the rank ID exceeds the max rankId.')
    if lab and len(ranks) / len({rank.server for rank in ranks}) not in (1, 2, 4, 8, 16):
        raise _bad('The devices num in ranktable is invalid')
    return ranks


def _load(path: str) -> Dict[str, Any]:
    if not path.endswith('.json'):
        raise _bad('the file name of the ranktable must end with .json: %s' % path)
    until = time.time() + environment.connect_timeout()
    while True:
        try:
            with open(path, encoding='utf-8') as file:
                table = json.load(file)
        except (OSError, ValueError) as error:
            raise _bad('Invalid ranktable format. %s: %s' % (path, error))
        if not isinstance(table, dict):
            raise _bad('Invalid ranktable format. %s' % path)
        if _text(table, 'status') == 'completed':
            return table
        if table['status'] != 'initializing' or time.time() > until:
            raise _bad("The 'status' in ranktable is invalid: '%s'" % table['status'])
        time.sleep(1)


def read(path: str) -> List[Rank]:
    """Ranks of the job in order; raises Refused (EI0004)."""
    return _ranks(_load(path))


def _ranks(table: Dict[str, Any]) -> List[Rank]:
    if 'version' not in table:
        ranks = _standard(table)
    elif _text(table, 'version') in ('1.0', '1.2'):
        ranks = _concise(table)
    else:
        raise _bad('Ranktable version is not supported')
    ips = [ip for rank in ranks for ip in rank.ips]
    if len(set(ips)) != len(ips):
        raise _bad('The IP is used repeatedly.')
    if (
        len({len(rank.ips) for rank in ranks}) > 1
        or len({ipaddress.ip_address(ip).version for ip in ips}) > 1
    ):
        raise _bad("The 'device_ip' in ranktable is not set or is not a valid ip address.")
    if len({(rank.server, rank.device) for rank in ranks}) != len(ranks):
        raise _bad('device id repeat for one server')
    return ranks


def find(path: str, device: int) -> Tuple[List[Rank], int]:
    """All ranks, and this process's own one by RANK_ID (POD_NAME before it) and its device; raises
    Refused.
    """
    table = _load(path)
    ranks = _ranks(table)
    return ranks, _own_rank(table, ranks, device)


def _own_rank(table: Dict[str, Any], ranks: List[Rank], device: int) -> int:
    pod = os.environ.get('POD_NAME', '')
    identity = pod or os.environ.get('RANK_ID', '')
    if not identity:
        raise Refused("[GePlugin] Can't find rank_id or pod_name in env.")
    if 'version' not in table and 'deploy_mode' not in table:
        servers = [
            item['server_id']
            for group in table['group_list']
            for item in group['instance_list']
            if item['pod_name'] == identity
        ]
        own = [rank.rank for rank in ranks if rank.server in servers and rank.device == device]
        if not own:
            raise _bad("no device %d in an instance with pod_name '%s'" % (device, identity))
        return own[0]
    if not identity.isdigit() or int(identity) >= len(ranks):
        raise _bad('rank_id[%s] is invalid, the ranktable has %d ranks' % (identity, len(ranks)))
    if ranks[int(identity)].device != device:
        raise _bad(
            'The ranktable config devId is inconsistent with the local devId.: rank %s has'
            ' device_id %d there, this process drives device %d'
            % (identity, ranks[int(identity)].device, device)
        )
    return int(identity)
