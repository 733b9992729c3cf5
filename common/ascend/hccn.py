"""Addresses of the devices' own network ports, from the driver's hccn_tool or /etc/hccn.conf."""

import re
import shutil
import subprocess
from typing import Dict, List, Sequence

from common.errors import UserError

TOOLS = '/usr/local/Ascend/driver/tools'  # where the driver puts hccn_tool
CONF = '/etc/hccn.conf'


def device_addresses(devices: Sequence[int]) -> List[str]:
    """The address of each device's port; UserError if one is not known."""
    for addresses in (_ask_tool(devices), _read_conf(CONF)):
        if set(devices) <= set(addresses):
            return [addresses[device] for device in devices]
    raise UserError(
        "no address for the devices %s: 'hccn_tool -i %d -ip -g' gives none, %s has no line"
        ' address_%d=...; set the addresses with hccn_tool, run where one of the two is at hand (in'
        ' a container: mount /etc/hccn.conf), or give them with hccl.rank_table generate'
        ' --device_ips a,b,...' % (','.join(map(str, devices)), devices[0], CONF, devices[0])
    )


def _ask_tool(devices: Sequence[int]) -> Dict[int, str]:
    tool = shutil.which('hccn_tool') or shutil.which('hccn_tool', path=TOOLS)
    addresses: Dict[int, str] = {}
    for device in devices if tool else ():
        try:
            output = subprocess.run(
                [tool, '-i', str(device), '-ip', '-g'],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=20,
            ).stdout
        except (OSError, subprocess.TimeoutExpired):
            break
        match = re.search(r'ipaddr:\s*(\S+)', output.decode(errors='replace'))
        if match:
            addresses[device] = match.group(1)
    return addresses


def _read_conf(path: str) -> Dict[int, str]:
    try:
        with open(path, errors='replace') as file:
            lines = re.findall(r'^\s*address_(\d+)\s*=\s*(\S+)', file.read(), re.M)
    except OSError:
        return {}
    return {int(device): address for device, address in lines}
