"""Which Ascend chips this machine has, as `npu-smi info` of the driver prints them."""

import re
import subprocess
from typing import List, NamedTuple

from common.errors import UserError


class Chip(NamedTuple):
    """One chip of the table. name: as printed, such as '910A', '310P3' or 'Ascend910'."""

    npu: int
    name: str
    health: str

    @property
    def soc_version(self) -> str:
        """The name that CANN's tools take, such as 'Ascend310P3'."""
        return self.name if self.name.startswith('Ascend') else 'Ascend' + self.name


def info() -> str:
    """What `npu-smi info` prints. UserError if it is missing, hangs or fails."""
    try:
        done = subprocess.run(
            ['npu-smi', 'info'],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            errors='replace',
            timeout=60,
        )
    except OSError:
        raise UserError('npu-smi is not on PATH; . /usr/local/Ascend/driver/bin/setenv.bash')
    except subprocess.TimeoutExpired:
        raise UserError('npu-smi info does not answer; see dmesg, then reinstall the driver')
    if done.returncode:
        raise UserError(
            'npu-smi info fails: %s; reinstall driver and firmware; in a container, pass'
            ' /dev/davinci* and the driver in' % ' '.join(done.stdout.split())[-110:]
        )
    return done.stdout


def parse(table: str) -> List[Chip]:
    """The chips of `npu-smi info`, in the order of the table; [] if it holds none.

    Each chip has two rows: NPU, name and health, then its number and bus id. Columns and their
    widths differ between versions, so only the first two cells of the first row are read. The
    heading of the table of processes, which has the same shape, ends that of chips.
    """
    rows = []
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.split('|')[1:-1]]
        if len(cells) < 2:
            continue
        if cells[0].startswith('NPU') and cells[1] != 'Health':
            break
        row = re.fullmatch(r'(\d+)(?:\s+(\S+))?', cells[0])
        if row:
            rows.append(Chip(int(row[1]), row[2] or '', cells[1]))
    return rows[::2]


def soc_version() -> str:
    """The chip of this machine as atc's --soc_version takes it. UserError if it is not clear."""
    fix = 'give --soc_version, such as Ascend310P3 or Ascend910A'
    try:
        names = sorted({chip.soc_version for chip in parse(info())})
    except UserError as error:
        raise UserError('%s; or %s' % (error, fix))
    if names == ['Ascend910']:
        raise UserError(
            'npu-smi info calls the chip Ascend910, which several are; give --soc_version:'
            ' "npu-smi info -t board -i 0 -c 0" prints Chip Name and NPU Name, join them as in'
            ' Ascend910_9391'
        )
    if len(names) != 1:
        raise UserError('npu-smi info lists %s; %s' % (' and '.join(names) or 'no chip', fix))
    return names[0]
