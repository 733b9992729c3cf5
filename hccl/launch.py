"""Starts one process per device and ends them together: on Ascend NPU with HCCL, on GPU and CPU
with Horovod.

python -m hccl.launch --devices 0-7 -- python wideresnet_tf/run_wideresnet.py --config RECIPE
--data_path D --output_path O
"""

import argparse
import contextlib
import os
import pathlib
import re
import subprocess
import sys
from typing import Dict, List, Optional, Sequence, Tuple

from common.ascend import cann, environment
from common.errors import Parser, UserError, entry_point
from hccl import horovod_ranks, npu_ranks, rank_table
from hccl.processes import Rank, run, say


def _flag(command: Sequence[str], name: str) -> Optional[str]:
    """The value of --name in the command to run."""
    parser = Parser(add_help=False)
    parser.add_argument('--' + name)
    return getattr(parser.parse_known_args(list(command))[0], name)


def _gpus() -> int:
    """Number of GPUs that nvidia-smi lists; 0 without it, or if CUDA_VISIBLE_DEVICES hides them."""
    if os.environ.get('CUDA_VISIBLE_DEVICES', '0') in ('', '-1'):
        return 0
    try:
        output = subprocess.run(
            ['nvidia-smi', '-L'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return len(re.findall(b'(?m)^GPU ', output))


def choose(args: argparse.Namespace) -> Tuple[str, str]:
    """The device and why: --device, else --device of the command, else the best there is."""
    inner = _flag(args.command, 'device')
    if args.device != 'auto':
        if inner not in (None, 'auto', args.device):
            raise UserError(
                '--device %s for the launcher and --device %s in the command: give one'
                % (args.device, inner)
            )
        return args.device, '--device %s' % args.device
    if inner in ('npu', 'gpu', 'cpu'):
        return inner, '--device %s in the command' % inner
    if cann.has_adapter():
        return 'npu', 'npu_bridge is installed'
    gpus = _gpus()
    if gpus:
        return 'gpu', 'nvidia-smi lists %d' % gpus
    return 'cpu', 'neither npu_bridge nor a GPU found'


def _run_with_horovod(
    args: argparse.Namespace, device: str, devices: Optional[List[int]], log_dir: pathlib.Path
) -> int:
    for flag in ('rank_table', 'server_index', *map(str.lower, environment.CM)):
        if getattr(args, flag) is not None:
            raise UserError(
                '--%s is for Ascend NPU, and this run is on %s; leave it out, or give --device npu'
                % (flag, device)
            )
    if devices is None:
        raise UserError('--devices: say how many processes, for example --devices 0-1 for two')
    settings: Dict[str, Optional[str]] = {}
    if device == 'gpu' and 'CUDA_VISIBLE_DEVICES' not in os.environ:
        gpus = _gpus()
        if devices[-1] >= gpus > 0:
            raise UserError(
                '--devices %s: nvidia-smi lists %d GPU%s; count from 0'
                % (args.devices, gpus, 's' * (gpus > 1))
            )
        settings['CUDA_VISIBLE_DEVICES'] = ','.join(map(str, devices))
    with contextlib.ExitStack() as stack:
        rank_variables: List[Dict[str, str]] = [{}]
        if len(devices) > 1:
            rank_variables = stack.enter_context(horovod_ranks.environments(len(devices), log_dir))
        ranks = [
            Rank('rank %d' % rank, device, dict(settings, **variables))
            for rank, variables in enumerate(rank_variables)
        ]
        return run(args.command, ranks, log_dir)


def _parser() -> Parser:
    parser = Parser(
        prog='python -m hccl.launch',
        description=__doc__,
        usage='%(prog)s --devices 0-7 [options] -- command ...',
    )
    parser.add_argument(
        '--devices',
        help='0-7, or 0,1,2,3, or 4; one process for each; default: all of the --rank_table',
    )
    parser.add_argument(
        '--device',
        choices=('auto', 'npu', 'gpu', 'cpu'),
        default='auto',
        help='auto: that of the command, else npu where npu_bridge is installed, else gpu, cpu',
    )
    parser.add_argument(
        '--log_dir',
        help='for rank_<n>.log; default: logs in the --output_path of the command, else ./logs',
    )
    npu = parser.add_argument_group('Ascend NPU')
    npu.add_argument(
        '--rank_table', help='default: $RANK_TABLE_FILE, else one is generated for this server'
    )
    npu.add_argument('--server_index', type=int, help='which server of the table this is, from 0')
    npu.add_argument(
        '--chip', choices=sorted(rank_table.CHIPS), default='910A', help='whose rules a table obeys'
    )
    meanings = (
        "the first server's address: no rank table, HCCL finds the ranks",
        'a free port there, such as 29688',
        'a device of the first server, such as 0',
        'number of devices of all servers',
        "this server's address",
    )
    for name, meaning in zip(environment.CM, meanings):
        npu.add_argument('--' + name.lower(), help=meaning)
    parser.add_argument(
        'command', nargs=argparse.REMAINDER, help='after --: what to run for each device'
    )
    return parser


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    args = _parser().parse_args(argv)
    args.command = args.command[1:] if args.command[:1] == ['--'] else args.command
    if not args.command:
        raise UserError(
            'no command: write it after --, for example: python -m hccl.launch --devices 0-7 --'
            ' python run_x.py'
        )
    device, why = choose(args)
    devices = rank_table.parse_devices(args.devices) if args.devices is not None else None
    output = _flag(args.command, 'output_path') or '.'
    log_dir = pathlib.Path(args.log_dir or os.path.join(output, 'logs'))
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            '%s: cannot make this folder for the logs (%s); give another with --log_dir'
            % (log_dir, error.strerror)
        )
    say('%s (%s); logs: %s' % (device, why, log_dir / '*.log'))
    if device == 'npu':
        sys.exit(run(args.command, npu_ranks.local_ranks(args, devices, log_dir), log_dir))
    sys.exit(_run_with_horovod(args, device, devices, log_dir))


if __name__ == '__main__':
    main()
