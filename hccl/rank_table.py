"""Rank tables: which device of which server has which rank. Generate one, merge those of several
servers, validate any.

python -m hccl.rank_table generate --devices 0-7
python -m hccl.rank_table merge first.json second.json --output hccl_2s_16p.json
python -m hccl.rank_table validate hccl_8p.json
"""

import json
import os
import re
import socket
import sys
from typing import Any, Dict, List, Optional, Sequence, Union

from common.ascend import hccn
from common.errors import Parser, UserError, entry_point
from common.files import read_json, write_text
from hccl.rules import CHIPS, VERSIONS, is_json_name, read, violations
from hccl.table_fields import Device, by_server

LARGEST_DEVICE = 255  # more than a server has, devices or cores


def load(path: Union[str, os.PathLike], chip: str = '910A') -> List[Device]:
    """Returns the devices, in order of rank, of a table that HCCL takes; UserError with the first
    violation of any other.
    """
    devices, problems = read(path, chip)
    if problems:
        more = ' (and %d more: python -m hccl.rank_table validate %s)' % (len(problems) - 1, path)
        raise UserError('rank table %s: %s%s' % (path, problems[0], more if problems[1:] else ''))
    return devices


def parse_devices(text: str) -> List[int]:
    """'0-3' or '0,2,3' or '4' as sorted numbers."""
    devices: List[int] = []
    for part in text.split(','):
        match = re.fullmatch(r'\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*)?', part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise UserError(
                "--devices %s: '%s' is neither a device nor a range; write 0-7, or 0,1,2,3, or 4"
                % (text, part)
            )
        if last > LARGEST_DEVICE:
            raise UserError(
                '--devices %s: devices are numbered from 0 to at most %d' % (text, LARGEST_DEVICE)
            )
        devices.extend(range(first, last + 1))
    devices.sort()
    for device, following in zip(devices, devices[1:]):
        if device == following:
            raise UserError('--devices %s: device %d is given twice' % (text, device))
    return devices


def generate(
    devices: Sequence[int],
    server_id: Optional[str] = None,
    device_ips: Optional[Sequence[str]] = None,
    chip: str = '910A',
) -> Dict[str, Any]:
    """The table of one server; ranks follow the device numbers. UserError if HCCL would refuse it.

    server_id: None takes this machine's address. device_ips: one for each device; None asks
    hccn_tool, then hccn.conf.
    """
    numbers = ','.join(map(str, devices))
    # The 910A's documentation demands addresses on a single server too.
    addresses = hccn.device_addresses(devices) if device_ips is None else device_ips
    if len(addresses) != len(devices):
        raise UserError(
            '--device_ips: %d addresses for %d devices (%s); give one for each, in their order'
            % (len(addresses), len(devices), numbers)
        )
    entries = [
        {'device_id': str(device), 'device_ip': address, 'rank_id': str(rank)}
        for rank, (device, address) in enumerate(zip(devices, addresses))
    ]
    server = {'server_id': server_id or _own_address(), 'device': entries}
    return _table([server], chip, 'devices ' + numbers)


def _own_address() -> str:
    """The address by which other machines know this one; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(('192.0.2.1', 9))
            return probe.getsockname()[0]
        except OSError:
            return '127.0.0.1'


def merge(paths: Sequence[str], chip: str = '910A') -> Dict[str, Any]:
    """One table of several servers' tables. Ranks go on in the order of `paths`, so every server
    must be given the same result.
    """
    servers: List[Dict[str, Any]] = []
    first = 0
    for path in paths:
        load(path, chip)
        document = read_json(path)
        if document.get('version') not in VERSIONS:
            raise UserError(
                '%s: a table of the old kind (group_list); merge takes version 1.0, as generate'
                ' writes it' % path
            )
        devices = [device for server in document['server_list'] for device in server['device']]
        for device in devices:
            device['rank_id'] = str(first + int(device['rank_id']))
        first += len(devices)
        servers += document['server_list']
    fix = (
        '; servers that have the same address need generate --server_ip, and every device an'
        ' address of its own (hccn_tool)'
    )
    return _table(servers, chip, 'merged ' + ', '.join(paths), fix)


def _table(servers: List[Dict[str, Any]], chip: str, origin: str, fix: str = '') -> Dict[str, Any]:
    """A table of version 1.0; UserError if HCCL would refuse it."""
    table: Dict[str, Any] = {'status': 'completed', 'version': '1.0'}
    table.update(server_count=str(len(servers)), server_list=servers)
    problems = violations(table, chip)
    if problems:
        raise UserError('%s: HCCL would refuse this table: %s%s' % (origin, problems[0], fix))
    return table


def write(table: Dict[str, Any], path: str) -> None:
    """Writes a table; UserError for a name that HCCL does not read."""
    if not is_json_name(path):
        raise UserError(
            "--output %s: HCCL reads only files whose names end in '.json' and hold it once" % path
        )
    write_text(path, json.dumps(table, indent=1) + '\n')


def _parser() -> Parser:
    parser = Parser(prog='python -m hccl.rank_table', description=__doc__)
    commands = parser.add_subparsers(dest='command', metavar='generate | merge | validate')
    commands.required = True
    make = commands.add_parser('generate', help='the table of this server')
    make.add_argument('--devices', required=True, help='0-7, or 0,1,2,3, or 4')
    make.add_argument(
        '--server_ip', help="this server's address or name; default: the address of its network"
    )
    make.add_argument(
        '--device_ips',
        help='addresses of the devices, with commas; default: from hccn_tool, else /etc/hccn.conf',
    )
    make.add_argument('--output', help='default: hccl_<n>p_<devices>_<server>.json')
    join = commands.add_parser('merge', help='one table of several servers')
    join.add_argument('tables', nargs='+', help='in the order of the servers')
    join.add_argument('--output', help='default: hccl_<s>s_<n>p.json')
    check = commands.add_parser(
        'validate', help='says what HCCL would refuse; exit status 1 if there is anything'
    )
    check.add_argument('table')
    for command in (make, join, check):
        command.add_argument('--chip', choices=sorted(CHIPS), default='910A')
    return parser


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    args = _parser().parse_args(argv)
    if args.command == 'validate':
        devices, problems = read(args.table, args.chip)
        count = len(by_server(devices))
        size = '%d server%s, ranks 0 to %d' % (count, 's' * (count > 1), len(devices) - 1)
        print('\n'.join(problems) or '%s: valid, %s' % (args.table, size))
        sys.exit(1 if problems else 0)
    if args.command == 'merge':
        table = merge(args.tables, args.chip)
        servers = table['server_list']
        ranks = sum(len(server['device']) for server in servers)
        name = 'hccl_%ds_%dp.json' % (len(servers), ranks)
    else:
        numbers = parse_devices(args.devices)
        ips = args.device_ips and args.device_ips.split(',')
        table = generate(numbers, args.server_ip, ips, args.chip)
        server_id = table['server_list'][0]['server_id']
        name = 'hccl_%dp_%s_%s.json' % (len(numbers), ''.join(map(str, numbers)), server_id)
    write(table, args.output or name)
    print('written: %s' % (args.output or name))


if __name__ == '__main__':
    main()
