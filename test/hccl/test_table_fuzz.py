"""Damaged rank tables are read, or refused with one line for each mistake."""

import copy
import json
import random

import pytest

from common.errors import UserError
from hccl import rank_table
from hccl.rules import read

VALUES = [None, True, 0, -1, 1.5, '', '0', '8', 'x', '\ud800', 'a\nb', [], ['1.0'], [[]], {}]
VALUES += [{'key': '0'}, '9' * 400, '1.0', '1.1', '127.0.0.1', 'device', 'completed']


def server_list(servers):
    return {
        'status': 'completed',
        'version': '1.0',
        'server_count': str(servers),
        'server_list': [
            {
                'server_id': '10.0.0.%d' % server,
                'device': [
                    {'device_id': str(d), 'device_ip': '1.1.%d.%d' % (server, d), 'rank_id': str(d)}
                    for d in range(2)
                ],
            }
            for server in range(servers)
        ],
    }


def group_list(**more):
    devices = [{'device_id': '0', 'device_ip': '1.1.1.1'}]
    instance = {'pod_name': 'a', 'server_id': 's', 'rank_id': '0', 'devices': devices}
    group = {'group_name': 'g', 'device_count': '1', 'instance_count': '1', 'device_num': '1'}
    group.update(server_num='1', instance_list=[instance])
    return dict({'status': 'completed', 'group_count': '1', 'group_list': [group]}, **more)


TABLES = [server_list(1), group_list()]
TABLES += [group_list(deploy_mode='lab', para_plane_nic_location='device'), server_list(2)]


def places(value, path=()):
    """Paths of everything below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield path + (key,)
        if isinstance(item, (dict, list)):
            yield from places(item, path + (key,))


def mutated(generator):
    """A table with one to three changes: a value replaced, removed or repeated."""
    table = copy.deepcopy(generator.choice(TABLES))
    for _ in range(generator.randint(1, 3)):
        *path, key = generator.choice(list(places(table)) or [('status',)])
        container = table
        for step in path:
            container = container[step]
        change = generator.randrange(4)
        if change == 0:
            del container[key]
        elif change == 1 and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[key] = copy.deepcopy(generator.choice(VALUES))
    return table


@pytest.mark.parametrize('seed', range(8))
def test_changed_values(tmp_path, seed):
    generator = random.Random(seed)
    path = tmp_path / 'table.json'
    for _ in range(150):
        table = mutated(generator)
        path.write_text(json.dumps(table))
        devices, lines = read(path)
        assert all(line.isprintable() and ': ' in line for line in lines), table
        if lines:
            with pytest.raises(UserError):
                rank_table.load(path)
            continue
        # What is valid names as many devices as it holds, once each, with the ranks 0 to n - 1.
        loaded = rank_table.load(path)
        assert loaded.size == len(devices) == path.read_text().count('"device_id"') > 0
        assert [device.rank_id for device in devices] == list(range(loaded.size))
        try:
            assert rank_table.merge([str(path)])['server_list']
        except UserError as error:
            assert 'old kind' in str(error)


@pytest.mark.parametrize('seed', range(4))
def test_changed_bytes(tmp_path, seed):
    generator = random.Random(seed)
    path = tmp_path / 'table.json'
    for _ in range(50):
        data = bytearray(json.dumps(generator.choice(TABLES)).encode())
        for _ in range(generator.randint(1, 5)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        path.write_bytes(bytes(data[: generator.randrange(len(data))] if seed == 3 else data))
        devices, lines = read(path)
        assert lines or devices


@pytest.mark.parametrize(
    'text',
    ['', '[]', '1', '{}', '[' * 100000, '{"a":' * 100000, '\ufeff{}', '{"version": ["1.0"]}'],
)
def test_files_that_are_not_tables(tmp_path, text):
    path = tmp_path / 'table.json'
    path.write_text(text)
    with pytest.raises(UserError):
        rank_table.load(path)


def test_any_depth(tmp_path):
    path = tmp_path / 'table.json'
    for depth in list(range(800, 1005)) + [100000]:
        path.write_text('{"a":' + '[' * depth + '1' + ']' * depth + '}')
        with pytest.raises(UserError):
            rank_table.load(path)


@pytest.mark.parametrize(
    'key, value, message',
    [
        ('version', ['1.0'], 'version: EI0004 .* expected a string, found a list'),
        ('device_id', ['0'], r'device\[0\].device_id: EI0004 .* expected a string, found a list'),
        ('device_ip', {}, r'device\[0\].device_ip: EI0004 .* expected a string, found a mapping'),
    ],
)
def test_lists_where_a_string_belongs(tmp_path, key, value, message):
    table = server_list(1)
    (table if key == 'version' else table['server_list'][0]['device'][0])[key] = value
    (tmp_path / 'table.json').write_text(json.dumps(table))
    with pytest.raises(UserError, match=message):
        rank_table.load(tmp_path / 'table.json')
