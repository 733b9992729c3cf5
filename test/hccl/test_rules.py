"""Each rule of HCCL's rank table parser: a valid table is broken in one place, and one line names
the place and HCCL's words.
"""

import copy
import functools
import json
import operator
import re

import pytest
from example_tables import cloud, concise, lab

from common.errors import UserError
from hccl.rank_table import load, violations


def broken(table, path, value):
    """A copy with this value at a path such as server_list[0].server_id; None takes it away."""
    table = copy.deepcopy(table)
    *way, key = [int(word) if word.isdigit() else word for word in re.findall(r'\w+', path)]
    container = functools.reduce(operator.getitem, way, table)
    if value is None:
        del container[key]
    else:
        container[key] = value
    return table


VALID = [concise(*sizes) for sizes in ((1, 8), (1, 1), (2, 8), (1, 4), (1, 2))]
VALID += [cloud(), cloud(1, 8), cloud(1, 1), lab(), lab(1), dict(concise(), version='1.2')]


@pytest.mark.parametrize('table', VALID)
def test_what_hccl_takes_has_no_violation(table):
    assert violations(table) == []


SERVER, DEVICE = 'server_list[0].', 'server_list[0].device[1].'
GROUP, INSTANCE = 'group_list[0].', 'group_list[0].instance_list[1].'
REPEATED_IP = 'EI0004 "The IP is used repeatedly."'
REPEATED_RANK = 'EI0004 "The rank ID is used repeatedly or the rank ID exceeds the max rankId."'
NO_IP = 'EI0004 "The \'device_ip\' in ranktable is not set or is not a valid ip address."'
BAD_RANK = 'EI0004 "The rankid in ranktable is invalid. Please check ranktable"'
REPEATED_DEVICE = 'EI0004 "device id repeat for one server. Please check ranktable"'
INVALID_IP = 'EI0004 "The ip in ranktable is not a valid ip address"'
OTHER_FAMILY = 'EI0001 "device ip family[10] is not same with others[2]."'
WRONG_HOST_IP = 'EI0004 "The ips in ranktable is invalid"'
OTHER_HOST_IP = 'hostIp config bettewn ranks is different.'
TWO_RINGS = '0-3 and 4-7 are two rings'
UNEVEN = 'device / server is invalid, '
TWO_IPS = '1.1.1.1,1.1.1.2'
CONCISE = [
    (concise(), 'version', '0.1', 'EI0004 "Ranktable version is not supported"'),
    (concise(), 'version', '1.1', 'parameter servers'),
    (concise(), 'version', None, 'json object has no property called group_list'),
    (concise(), 'status', 'initializing', 'timeout[1800]s'),
    (concise(), 'server_count', '2', 'EI0004 "The \'server_count\' in ranktable is invalid."'),
    (concise(), 'server_list', [], 'get property[server_list] size is zero'),
    (concise(), SERVER + 'server_id', 'x' * 65, 'length[65] is too long'),
    (concise(), SERVER + 'server_id', '', 'serverId[] is empty'),
    (concise(2), 'server_list[1].server_id', '10.0.0.1', REPEATED_IP),
    (concise(), SERVER + 'host_ip', '1.2.3', WRONG_HOST_IP),
    (concise(), SERVER + 'device', [], 'get property[device] size is zero'),
    (concise(), DEVICE + 'device_id', '8', 'plog "device_id[8] more than 7 is invalid"'),
    (concise(), DEVICE + 'device_id', 'one', "found 'one'"),
    (concise(), DEVICE + 'device_id', '0', REPEATED_DEVICE),
    (concise(), DEVICE + 'device_ip', '192.168.0.256', INVALID_IP),
    (concise(), DEVICE + 'device_ip', '192.168.0.1', REPEATED_IP),
    (concise(1, 1), SERVER + 'device[0].device_ip', '1.1.1.1,1.1.1.1', REPEATED_IP),
    (concise(), DEVICE + 'device_ip', 'fe80::1', OTHER_FAMILY),
    (concise(), DEVICE + 'device_ip', TWO_IPS, 'device[1] size[2] neq first device size[1] error'),
    (concise(2), DEVICE + 'device_ip', None, NO_IP),
    (concise(), DEVICE + 'rank_id', '0', REPEATED_RANK),
    (concise(), DEVICE + 'rank_id', '8', REPEATED_RANK),
    (concise(), DEVICE + 'rank_id', '1a', BAD_RANK),
]
WRONG_INSTANCES = 'check instanceNum[3] or devNum error'
GROUPS = [
    (cloud(), 'group_count', '2', 'groupList size[1] error, groupNum[2]'),
    (cloud(), GROUP + 'instance_count', '3', WRONG_INSTANCES + ', checkInstance[2]'),
    (cloud(), GROUP + 'device_count', '7', 'devNum[7] error, checkDev[8]'),
    (cloud(), GROUP + 'group_name', 'x' * 65, 'is too long'),
    (cloud(), INSTANCE + 'pod_name', 'pod0', REPEATED_IP),
    (cloud(), INSTANCE + 'pod_name', 'x' * 65, 'is too long'),
    (cloud(), INSTANCE + 'devices[0].device_id', '9', 'device_id[9] more than 7'),
    (cloud(), INSTANCE + 'devices[0].device_ip', 'x', 'is not a valid ip address'),
    (lab(), 'para_plane_nic_location', 'host', 'host nic is unsupport'),
    (lab(), 'para_plane_nic_location', 'card', "paraPlaneLocation should be 'device'"),
    (lab(), GROUP + 'device_num', '4', 'instance num error'),
    (lab(), GROUP + 'server_num', '0', 'server num is zero'),
    (lab(), GROUP + 'server_num', '3', UNEVEN + 'uDeviceNum[8], uServerNum[3]'),
    (lab(), GROUP + 'server_num', '2', 'EI0004 "The devices num in ranktable is invalid"'),
    (lab(), INSTANCE + 'rank_id', '-1', 'EI0004 "The rankid in ranktable is invalid."'),
    (lab(), INSTANCE + 'rank_id', '0', 'EI0004 "The rank ID is used repeatedly'),
]
# What is said of another place than the one that is broken.
ELSEWHERE = [
    (concise(2), SERVER + 'host_ip', '10.1.0.1', 'server_list', OTHER_HOST_IP),
    (concise(1, 2), DEVICE + 'device_id', '4', SERVER + 'device', 'devices 0,4: ' + TWO_RINGS),
    (concise(1, 4), DEVICE + 'device_id', '7', SERVER + 'device', 'devices 0,2,3,7: ' + TWO_RINGS),
    (lab(3), 'status', 'completed', GROUP + 'server_num', UNEVEN + 'uDeviceNum[3], uServerNum[1]'),
]


@pytest.mark.parametrize(
    'table, path, value, place, words',
    [(table, path, value, path, words) for table, path, value, words in CONCISE + GROUPS]
    + ELSEWHERE,
)
def test_one_broken_value_gives_one_line_with_its_place_and_the_words(
    table, path, value, place, words
):
    (line,) = violations(broken(table, path, value))
    assert line.startswith(place + ': ') and words in line and '\n' not in line


@pytest.mark.parametrize(
    'table, place, key',
    [
        (concise(), '', 'status'),
        (concise(), '', 'server_list'),
        (concise(), SERVER, 'server_id'),
        (cloud(), INSTANCE, 'pod_name'),
        (cloud(), INSTANCE, 'server_id'),
        (cloud(), INSTANCE + 'devices[0].', 'device_ip'),
        (lab(), '', 'para_plane_nic_location'),
        (lab(), INSTANCE + 'devices[0].', 'device_ip'),
    ],
)
def test_an_absent_property_is_named_at_its_object(table, place, key):
    (line,) = violations(broken(table, place + key, None))
    assert line.startswith((place[:-1] or 'table') + ': ')
    assert 'json object has no property called ' + key in line and '\n' not in line


@pytest.mark.parametrize(
    'path, value, name',
    [
        ('server_count', 1, 'server_count'),
        (DEVICE + 'rank_id', 1, 'rank_id'),
        ('version', 1.0, 'version'),
        (DEVICE + 'device_id', True, 'device_id'),
        ('extra', {'deep': [3]}, 'deep'),
    ],
)
def test_every_scalar_is_a_string(path, value, name):
    (line,) = violations(broken(concise(), path, value))
    assert 'json object property value of Name[%s] is not string!' % name in line


def test_a_lab_instance_with_two_devices():
    table = lab(2)
    instances = table['group_list'][0]['instance_list']
    instances[0]['devices'] += instances.pop()['devices']
    table['group_list'][0].update(device_num='1', instance_count='1')
    (line,) = violations(table)
    place = 'group_list[0].instance_list[0].devices: '
    assert line.startswith(place + 'EI0004 "The rankid in ranktable is invalid."')


def test_servers_of_different_size():
    table = concise(2)
    del table['server_list'][1]['device'][4:]
    words = 'EI0004 "The devices num in ranktable is invalid": 10.0.0.1 has 8, 10.0.0.2 has 4'
    assert any(words in line for line in violations(table))
    assert violations(table, '910B') == []


def test_910b_has_16_devices_and_no_rings():
    assert violations(concise(1, 16), '910B') == []
    assert violations(broken(concise(1, 2), DEVICE + 'device_id', '4'), '910B') == []
    line = violations(broken(concise(1, 16), DEVICE + 'device_id', '16'), '910B')[0]
    assert 'device_id[16] more than 15 is invalid' in line
    with pytest.raises(UserError, match="legal are 910A, 910B; did you mean '910B'"):
        violations(concise(), '910b')


def test_roce_within_a_server_needs_addresses(monkeypatch):
    table = broken(concise(1, 1), SERVER + 'device[0].device_ip', None)
    assert violations(table) == []  # HCCL only warns
    monkeypatch.setenv('HCCL_INTRA_ROCE_ENABLE', '1')
    assert "'device_ip' in ranktable is not set" in violations(table)[0]


def test_several_mistakes_are_all_found():
    table = broken(broken(concise(), 'status', 'waiting'), DEVICE + 'device_ip', 'x')
    places = [line.split(':')[0] for line in violations(table)]
    assert places == ['status', 'server_list[0].device[1].device_ip']


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
    (line,) = violations(tmp_path / name)
    assert words in line


def test_a_missing_file_is_named_once(tmp_path):
    message = '^rank table %s: No such file or directory; [^/]*$' % (tmp_path / 'table.json')
    with pytest.raises(UserError, match=message):
        load(tmp_path / 'table.json')


def test_ranks_of_a_cloud_table_follow_server_then_device(tmp_path):
    path = tmp_path / 'cloud.json'
    path.write_text(json.dumps(cloud()))
    devices = load(path)
    assert [(device.server_id, device.rank_id, device.device_id) for device in devices] == [
        *[('10.0.0.8', number, number) for number in range(4)],
        *[('10.0.0.9', 4 + number, number) for number in range(4)],
    ]
    assert devices[0].pod_name == 'pod1'
