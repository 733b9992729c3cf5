"""Making, merging and reading rank tables."""

import json
import pathlib
import subprocess
import sys

import pytest
from example_tables import cloud, saved

from common.ascend import hccn
from common.errors import UserError
from hccl import rank_table
from hccl.rank_table import generate, load, main, merge, parse_devices, violations, write

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch, tmp_path):
    """Neither hccn_tool nor hccn.conf; the current folder is empty."""
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    monkeypatch.setattr(hccn, 'CONF', str(tmp_path / 'hccn.conf'))
    monkeypatch.setattr(hccn, 'TOOLS', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'bin').mkdir()


def fake_tool(tmp_path, knows):
    """hccn_tool -i N -ip -g, as the real one prints; it fails for devices that it does not know."""
    tool = tmp_path / 'bin' / 'hccn_tool'
    tool.write_text(
        '#!/bin/sh\n[ "$3 $4 $1" = "-ip -g -i" ] || exit 9\n[ "$2" -lt %d ] || { echo "ip not set";'
        ' exit 1; }\necho "ipaddr:172.16.0.$2"\necho "netmask:255.255.0.0"\n' % knows
    )
    tool.chmod(0o755)


def ips(table):
    return [device['device_ip'] for device in table['server_list'][0]['device']]


def test_addresses_from_hccn_tool(tmp_path):
    fake_tool(tmp_path, knows=8)
    table = generate([4, 5], '10.0.0.1')
    assert table == {
        'status': 'completed',
        'version': '1.0',
        'server_count': '1',
        'server_list': [
            {
                'server_id': '10.0.0.1',
                'device': [
                    {'device_id': '4', 'device_ip': '172.16.0.4', 'rank_id': '0'},
                    {'device_id': '5', 'device_ip': '172.16.0.5', 'rank_id': '1'},
                ],
            }
        ],
    }


def test_addresses_from_the_file_if_the_tool_is_missing_or_lacks_one(tmp_path):
    (tmp_path / 'hccn.conf').write_text(
        'address_0=1.1.1.1\nnetmask_0=255.255.255.0\n address_1 = 1.1.1.2 \n#address_2=9.9.9.9\n'
    )
    assert ips(generate([0, 1], 'a')) == ['1.1.1.1', '1.1.1.2']
    fake_tool(tmp_path, knows=1)
    assert ips(generate([0, 1], 'a')) == ['1.1.1.1', '1.1.1.2']
    fake_tool(tmp_path, knows=2)
    assert ips(generate([0, 1], 'a')) == ['172.16.0.0', '172.16.0.1']


def test_addresses_given():
    assert ips(generate([0, 1], 'a', ['1.1.1.1', '1.1.1.2'])) == ['1.1.1.1', '1.1.1.2']
    with pytest.raises(UserError, match=r'--device_ips: 1 addresses for 2 devices \(0,1\)'):
        generate([0, 1], 'a', ['1.1.1.1'])
    with pytest.raises(UserError, match='not a valid ip address'):
        generate([0], 'a', ['1.1.1'])


def test_no_addresses_anywhere(tmp_path):
    with pytest.raises(UserError) as error:
        generate([0, 1], 'a')
    for way in ('hccn_tool -i 0 -ip -g', str(tmp_path / 'hccn.conf'), '--device_ips'):
        assert way in str(error.value)


def test_the_server_id_is_the_address_by_which_others_know_this_machine(monkeypatch):
    class Probe:
        """A UDP socket whose route to the network has this address of ours."""

        def __init__(self, *kind):
            self.address = '0.0.0.0'

        def connect(self, target):
            self.address = '10.20.30.40' if target[0] != '127.0.0.1' else '127.0.0.1'

        def getsockname(self):
            return self.address, 9

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(rank_table.socket, 'socket', Probe)
    table = generate([0], device_ips=['1.1.1.1'])
    assert table['server_list'][0]['server_id'] == '10.20.30.40'


def test_devices_that_cannot_work_together():
    with pytest.raises(UserError, match='devices 2,3,4,5: 0-3 and 4-7'):
        generate([2, 3, 4, 5], 'a', ['1.1.1.%d' % device for device in range(2, 6)])
    with pytest.raises(UserError, match='more than 7 is invalid'):
        generate([8], 'a', ['1.1.1.1'])


@pytest.mark.parametrize(
    'text, devices',
    [('0-7', list(range(8))), ('4', [4]), ('3,1', [1, 3]), ('0-1, 4-5', [0, 1, 4, 5])],
)
def test_parse_devices(text, devices):
    assert parse_devices(text) == devices


@pytest.mark.parametrize(
    'text, words',
    [
        ('', 'neither a device nor a range'),
        ('0-', 'neither a device'),
        ('3-1', 'neither a device'),
        ('a', "'a'"),
        ('0-99999999', '--devices 0-99999999: devices are numbered from 0 to at most 255'),
        ('256', 'to at most 255'),
        ('0-2,2', 'device 2 is given twice'),
    ],
)
def test_parse_devices_refuses(text, words):
    with pytest.raises(UserError, match=words):
        parse_devices(text)


def test_merge_numbers_ranks_in_the_order_of_the_files(tmp_path):
    first, second = saved(tmp_path / 'a.json', 'hostA', 1), saved(tmp_path / 'b.json', 'hostB', 2)
    write(merge([second, first]), 'two.json')
    devices = load('two.json')
    assert [device.rank_id for device in devices] == list(range(8))
    assert [device.server_id for device in devices] == ['hostB'] * 4 + ['hostA'] * 4
    assert devices[5][:4] == (1, '192.168.1.1', 5, 'hostA')
    write(merge(['two.json', saved(tmp_path / 'c.json', 'hostC', 3)]), 'three.json')
    last = load('three.json')[-1]
    assert last.server_id == 'hostC' and last.rank_id == 11
    assert violations('three.json') == []


def test_merge_refuses(tmp_path):
    first = saved(tmp_path / 'a.json', 'hostA', 1)
    for other, words in (
        (
            saved(tmp_path / 'b.json', 'hostA', 2),
            "a.json, .*b.json: .*server_id: .*'hostA' is also in .*generate --server_ip",
        ),
        (
            saved(tmp_path / 'c.json', 'hostC', 1),
            "a.json, .*c.json: .*device_ip: .*'192.168.1.0' is also in .*hccn_tool",
        ),
        (saved(tmp_path / 'd.json', 'hostD', 4, range(2)), 'hostA has 4, hostD has 2; give every'),
    ):
        with pytest.raises(UserError, match=words):
            merge([first, other])
    old = tmp_path / 'old.json'
    old.write_text(json.dumps(cloud(1, 1)))
    with pytest.raises(UserError, match='old.json: a table of the old kind'):
        merge([first, str(old)])


def test_load_says_the_first_violation_and_how_to_see_all(tmp_path):
    path = tmp_path / 'bad.json'
    path.write_text(json.dumps({'status': 'completed', 'version': '0.1', 'server_count': 1}))
    said = (
        r'bad.json: server_count: plog .* \(and 1 more: python -m hccl.rank_table validate'
        r' .*bad.json\)'
    )
    with pytest.raises(UserError, match=said):
        load(path)


@pytest.mark.parametrize('ranks', [1, 8])
def test_the_shipped_tables(ranks):
    devices = load(ROOT / 'hccl' / ('hccl_%dp.json' % ranks))
    numbers = [(device.rank_id, device.device_id) for device in devices]
    assert numbers == [(number, number) for number in range(ranks)]
    shipped = ['192.168.%d.%d' % (third, last) for last in (101, 100) for third in range(100, 104)]
    assert [device.device_ip for device in devices] == shipped[:ranks]


def test_commands(tmp_path, capsys):
    fake_tool(tmp_path, knows=8)
    main('generate --devices 0-3 --server_ip 10.0.0.1'.split())
    given = ' --device_ips 1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4 --output b.json'
    main(('generate --devices 0-3 --server_ip 10.0.0.2' + given).split())
    main(['merge', 'hccl_4p_0123_10.0.0.1.json', 'b.json'])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(['validate', 'hccl_2s_8p.json'])
    assert ended.value.code == 0
    assert capsys.readouterr().out == 'hccl_2s_8p.json: valid, 2 servers, ranks 0 to 7\n'
    with open('hccl_2s_8p.json') as file:
        table = json.load(file)
    table['server_list'][1]['device'][0].update(rank_id='0', device_id='8')
    with open('hccl_2s_8p.json', 'w') as file:
        json.dump(table, file)
    with pytest.raises(SystemExit) as ended:
        main(['validate', 'hccl_2s_8p.json'])
    said = 'server_list[1].device[0].device_id: plog "device_id[8] more than 7'
    assert ended.value.code == 1 and said in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(['generate', '--devices', '0', '--output', 'table.txt'])
    assert ended.value.code == 2 and "end in '.json'" in capsys.readouterr().err


def test_needs_the_standard_library_only(tmp_path):
    code = (
        'import sys, hccl.launch, hccl.rank_table; print({"numpy", "tensorflow", "yaml", "tqdm"} &'
        ' set(sys.modules))'
    )
    output = subprocess.check_output([sys.executable, '-c', code], env={'PYTHONPATH': str(ROOT)})
    assert output.strip() == b'set()'
