"""Files that are no rank tables; test/campaign changes values and bytes of whole ones."""

import json

import pytest

from common.errors import UserError
from hccl import rank_table


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
