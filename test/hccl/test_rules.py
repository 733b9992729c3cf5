"""Each rule of HCCL's rank table parser: a valid table is broken in one place, and one line names
the place and HCCL's words.
"""

import copy
import json

import pytest

from common.errors import UserError
from hccl.rank_table import load, violations


def concise(servers=1, devices=8):
    return {
        'status': 'completed',
        'version': '1.0',
        'server_count': str(servers),
        'server_list': [
            {
                'server_id': '10.0.0.%d' % (server + 1),
                'device': [
                    {
                        'device_id': str(device),
                        'device_ip': '192.168.%d.%d' % (server, device + 1),
                        'rank_id': str(server * devices + device),
                    }
                    for device in range(devices)
                ],
            }
            for server in range(servers)
        ],
    }


def cloud(instances=2, devices=4):
    return {
        'status': 'completed',
        'group_count': '1',
        'group_list': [
            {
                'group_name': 'worker',
                'device_count': str(instances * devices),
                'instance_count': str(instances),
                'instance_list': [
                    {
                        'pod_name': 'pod%d' % index,
                        'server_id': '10.0.0.%d' % (9 - index),
                        'devices': [
                            {
                                'device_id': str(device),
                                'device_ip': '192.168.%d.%d' % (index, device + 1),
                            }
                            for device in reversed(range(devices))
                        ],
                    }
                    for index in range(instances)
                ],
            }
        ],
    }


def lab(devices=8):
    return {
        'status': 'completed',
        'deploy_mode': 'lab',
        'board_id': '0x0000',
        'group_count': '1',
        'para_plane_nic_location': 'device',
        'para_plane_nic_num': '8',
        'para_plane_nic_name': ['eth0'],
        'group_list': [
            {
                'group_name': '',
                'device_num': str(devices),
                'server_num': '1',
                'instance_count': str(devices),
                'instance_list': [
                    {
                        'rank_id': str(device),
                        'server_id': '10.0.0.1',
                        'devices': [
                            {'device_id': str(device), 'device_ip': '192.168.0.%d' % (device + 1)}
                        ],
                    }
                    for device in range(devices)
                ],
            }
        ],
    }


def at(table, path):
    """The container and the last key of a path such as ('server_list', 0, 'server_id')."""
    for key in path[:-1]:
        table = table[key]
    return table, path[-1]


def broken(table, path, value):
    table = copy.deepcopy(table)
    container, key = at(table, path)
    if value is None:
        del container[key]
    else:
        container[key] = value
    return table


@pytest.mark.parametrize(
    'table',
    [
        concise(),
        concise(1, 1),
        concise(2),
        concise(1, 4),
        concise(1, 2),
        cloud(),
        cloud(1, 8),
        cloud(1, 1),
        lab(),
        lab(1),
        dict(concise(), version='1.2'),
    ],
)
def test_what_hccl_takes_has_no_violation(table):
    assert violations(table) == []


S, D = ('server_list', 0), ('server_list', 0, 'device', 1)
CONCISE = [
    (concise(), ('version',), '0.1', 'version', 'EI0004 "Ranktable version is not supported"'),
    (concise(), ('version',), '1.1', 'version', 'parameter servers'),
    (concise(), ('version',), None, 'version', 'json object has no property called group_list'),
    (concise(), ('status',), 'initializing', 'status', 'timeout[1800]s'),
    (concise(), ('status',), None, 'table', 'json object has no property called status'),
    (
        concise(),
        ('server_count',),
        '2',
        'server_count',
        'EI0004 "The \'server_count\' in ranktable is invalid."',
    ),
    (concise(), ('server_list',), [], 'server_list', 'get property[server_list] size is zero'),
    (concise(), ('server_list',), None, 'table', 'json object has no property called server_list'),
    (concise(), S + ('server_id',), 'x' * 65, 'server_list[0].server_id', 'length[65] is too long'),
    (concise(), S + ('server_id',), '', 'server_list[0].server_id', 'serverId[] is empty'),
    (
        concise(),
        S + ('server_id',),
        None,
        'server_list[0]',
        'json object has no property called server_id',
    ),
    (
        concise(2),
        ('server_list', 1, 'server_id'),
        '10.0.0.1',
        'server_list[1].server_id',
        'EI0004 "The IP is used repeatedly."',
    ),
    (
        concise(),
        S + ('host_ip',),
        '1.2.3',
        'server_list[0].host_ip',
        'EI0004 "The ips in ranktable is invalid"',
    ),
    (
        concise(2),
        S + ('host_ip',),
        '10.1.0.1',
        'server_list',
        'hostIp config bettewn ranks is different.',
    ),
    (concise(), S + ('device',), [], 'server_list[0].device', 'get property[device] size is zero'),
    (
        concise(),
        D + ('device_id',),
        '8',
        'server_list[0].device[1].device_id',
        'plog "device_id[8] more than 7 is invalid"',
    ),
    (concise(), D + ('device_id',), 'one', 'server_list[0].device[1].device_id', "found 'one'"),
    (
        concise(),
        D + ('device_id',),
        '0',
        'server_list[0].device[1].device_id',
        'EI0004 "device id repeat for one server. Please check ranktable"',
    ),
    (
        concise(),
        D + ('device_ip',),
        '192.168.0.256',
        'server_list[0].device[1].device_ip',
        'EI0004 "The ip in ranktable is not a valid ip address"',
    ),
    (
        concise(),
        D + ('device_ip',),
        '192.168.0.1',
        'server_list[0].device[1].device_ip',
        'EI0004 "The IP is used repeatedly."',
    ),
    (
        concise(1, 1),
        ('server_list', 0, 'device', 0, 'device_ip'),
        '1.1.1.1,1.1.1.1',
        'server_list[0].device[0].device_ip',
        'EI0004 "The IP is used repeatedly."',
    ),
    (
        concise(),
        D + ('device_ip',),
        'fe80::1',
        'server_list[0].device[1].device_ip',
        'EI0001 "device ip family[10] is not same with others[2]."',
    ),
    (
        concise(),
        D + ('device_ip',),
        '1.1.1.1,1.1.1.2',
        'server_list[0].device[1].device_ip',
        'device[1] size[2] neq first device size[1] error',
    ),
    (
        concise(2),
        D + ('device_ip',),
        None,
        'server_list[0].device[1].device_ip',
        'EI0004 "The \'device_ip\' in ranktable is not set or is not a valid ip address."',
    ),
    (
        concise(),
        D + ('rank_id',),
        '0',
        'server_list[0].device[1].rank_id',
        'EI0004 "The rank ID is used repeatedly or the rank ID exceeds the max rankId."',
    ),
    (
        concise(),
        D + ('rank_id',),
        '8',
        'server_list[0].device[1].rank_id',
        'EI0004 "The rank ID is used repeatedly or the rank ID exceeds the max rankId."',
    ),
    (
        concise(),
        D + ('rank_id',),
        '1a',
        'server_list[0].device[1].rank_id',
        'EI0004 "The rankid in ranktable is invalid. Please check ranktable"',
    ),
    (
        concise(1, 2),
        D + ('device_id',),
        '4',
        'server_list[0].device',
        'devices 0,4: 0-3 and 4-7 are two rings',
    ),
    (
        concise(1, 4),
        D + ('device_id',),
        '7',
        'server_list[0].device',
        'devices 0,2,3,7: 0-3 and 4-7',
    ),
]

GROUP, INSTANCE = ('group_list', 0), ('group_list', 0, 'instance_list', 1)
GROUPS = [
    (cloud(), ('group_count',), '2', 'group_count', 'groupList size[1] error, groupNum[2]'),
    (
        cloud(),
        GROUP + ('instance_count',),
        '3',
        'group_list[0].instance_count',
        'check instanceNum[3] or devNum error, checkInstance[2]',
    ),
    (
        cloud(),
        GROUP + ('device_count',),
        '7',
        'group_list[0].device_count',
        'devNum[7] error, checkDev[8]',
    ),
    (cloud(), GROUP + ('group_name',), 'x' * 65, 'group_list[0].group_name', 'is too long'),
    (
        cloud(),
        INSTANCE + ('pod_name',),
        'pod0',
        'group_list[0].instance_list[1].pod_name',
        'EI0004 "The IP is used repeatedly."',
    ),
    (
        cloud(),
        INSTANCE + ('pod_name',),
        'x' * 65,
        'group_list[0].instance_list[1].pod_name',
        'is too long',
    ),
    (
        cloud(),
        INSTANCE + ('pod_name',),
        None,
        'group_list[0].instance_list[1]',
        'json object has no property called pod_name',
    ),
    (
        cloud(),
        INSTANCE + ('server_id',),
        None,
        'group_list[0].instance_list[1]',
        'json object has no property called server_id',
    ),
    (
        cloud(),
        INSTANCE + ('devices', 0, 'device_id'),
        '9',
        'group_list[0].instance_list[1].devices[0].device_id',
        'device_id[9] more than 7',
    ),
    (
        cloud(),
        INSTANCE + ('devices', 0, 'device_ip'),
        'x',
        'group_list[0].instance_list[1].devices[0].device_ip',
        'is not a valid ip address',
    ),
    (
        cloud(),
        INSTANCE + ('devices', 0, 'device_ip'),
        None,
        'group_list[0].instance_list[1].devices[0]',
        'no property called device_ip',
    ),
    (
        lab(),
        ('para_plane_nic_location',),
        'host',
        'para_plane_nic_location',
        'host nic is unsupport',
    ),
    (
        lab(),
        ('para_plane_nic_location',),
        'card',
        'para_plane_nic_location',
        "paraPlaneLocation should be 'device'",
    ),
    (
        lab(),
        ('para_plane_nic_location',),
        None,
        'table',
        'json object has no property called para_plane_nic_location',
    ),
    (lab(), GROUP + ('device_num',), '4', 'group_list[0].device_num', 'instance num error'),
    (lab(), GROUP + ('server_num',), '0', 'group_list[0].server_num', 'server num is zero'),
    (
        lab(),
        GROUP + ('server_num',),
        '3',
        'group_list[0].server_num',
        'device / server is invalid, uDeviceNum[8], uServerNum[3]',
    ),
    (
        lab(),
        GROUP + ('server_num',),
        '2',
        'group_list[0].server_num',
        'EI0004 "The devices num in ranktable is invalid"',
    ),
    (
        lab(3),
        ('status',),
        'completed',
        'group_list[0].server_num',
        'device / server is invalid, uDeviceNum[3], uServerNum[1]',
    ),
    (
        lab(),
        INSTANCE + ('rank_id',),
        '-1',
        'group_list[0].instance_list[1].rank_id',
        'EI0004 "The rankid in ranktable is invalid."',
    ),
    (
        lab(),
        INSTANCE + ('rank_id',),
        '0',
        'group_list[0].instance_list[1].rank_id',
        'EI0004 "The rank ID is used repeatedly',
    ),
    (
        lab(),
        INSTANCE + ('devices', 0, 'device_ip'),
        None,
        'group_list[0].instance_list[1].devices[0]',
        'no property called device_ip',
    ),
]


@pytest.mark.parametrize('table, path, value, place, words', CONCISE + GROUPS)
def test_one_broken_value_gives_one_line_with_its_place_and_the_words(
    table, path, value, place, words
):
    lines = violations(broken(table, path, value))
    assert len(lines) == 1
    assert lines[0].startswith(place + ': ')
    assert words in lines[0] and '\n' not in lines[0]


@pytest.mark.parametrize(
    'path, value, name',
    [
        (('server_count',), 1, 'server_count'),
        (D + ('rank_id',), 1, 'rank_id'),
        (('version',), 1.0, 'version'),
        (D + ('device_id',), True, 'device_id'),
        (('extra',), {'deep': [3]}, 'deep'),
    ],
)
def test_every_scalar_is_a_string(path, value, name):
    lines = violations(broken(concise(), path, value))
    assert (
        len(lines) == 1
        and 'json object property value of Name[%s] is not string!' % name in lines[0]
    )


def test_a_lab_instance_with_two_devices():
    table = lab(2)
    instances = table['group_list'][0]['instance_list']
    instances[0]['devices'] += instances.pop()['devices']
    table['group_list'][0].update(device_num='1', instance_count='1')
    lines = violations(table)
    assert len(lines) == 1 and lines[0].startswith(
        'group_list[0].instance_list[0].devices: EI0004 "The rankid in ranktable is invalid."'
    )


def test_servers_of_different_size():
    table = concise(2)
    del table['server_list'][1]['device'][4:]
    assert [
        line
        for line in violations(table)
        if 'EI0004 "The devices num in ranktable is invalid": 10.0.0.1 has 8, 10.0.0.2 has 4'
        in line
    ]
    assert violations(table, '910B') == []


def test_910b_has_16_devices_and_no_rings():
    assert violations(concise(1, 16), '910B') == []
    assert violations(broken(concise(1, 2), D + ('device_id',), '4'), '910B') == []
    assert (
        'device_id[16] more than 15 is invalid'
        in violations(broken(concise(1, 16), D + ('device_id',), '16'), '910B')[0]
    )
    with pytest.raises(UserError, match="legal are 910A, 910B; did you mean '910B'"):
        violations(concise(), '910b')


def test_roce_within_a_server_needs_addresses(monkeypatch):
    table = broken(concise(1, 1), ('server_list', 0, 'device', 0, 'device_ip'), None)
    assert violations(table) == []  # HCCL only warns
    monkeypatch.setenv('HCCL_INTRA_ROCE_ENABLE', '1')
    assert "'device_ip' in ranktable is not set" in violations(table)[0]


def test_several_mistakes_are_all_found():
    table = broken(broken(concise(), ('status',), 'waiting'), D + ('device_ip',), 'x')
    assert [line.split(':')[0] for line in violations(table)] == [
        'status',
        'server_list[0].device[1].device_ip',
    ]


@pytest.mark.parametrize(
    'name, text, words',
    [
        ('table.txt', json.dumps(concise()), 'is not a valid .json file'),
        ('a.json.json', json.dumps(concise()), 'is not a valid .json file'),
        ('table.json', '{"status": "completed", // ready\n}', 'EI0004 "Invalid ranktable format."'),
        ('table.json', '[]', 'EI0004 "Invalid ranktable format."'),
    ],
)
def test_files_that_hccl_cannot_read(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    lines = violations(tmp_path / name)
    assert len(lines) == 1 and words in lines[0]


def test_a_missing_file_is_named_once(tmp_path):
    message = '^rank table %s: No such file or directory; [^/]*$' % (tmp_path / 'table.json')
    with pytest.raises(UserError, match=message):
        load(tmp_path / 'table.json')


def test_ranks_of_a_cloud_table_follow_server_then_device(tmp_path):
    path = tmp_path / 'cloud.json'
    path.write_text(json.dumps(cloud()))
    table = load(path)
    assert [
        (server.server_id, [(device.rank_id, device.device_id) for device in server.devices])
        for server in table.servers
    ] == [
        ('10.0.0.8', [(0, 0), (1, 1), (2, 2), (3, 3)]),
        ('10.0.0.9', [(4, 0), (5, 1), (6, 2), (7, 3)]),
    ]
    assert table.servers[0].devices[0].pod_name == 'pod1'
