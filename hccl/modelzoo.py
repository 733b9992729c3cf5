"""Trains as ModelZoo's own test scripts do, and prints the lines that its checks look for.

Behind <model>_tf/test/train_full_1p.sh, train_performance_1p.sh and the same for 8 devices. Results
go to output/<device> below the current folder; flags that are not listed go to the run script.
"""

import argparse
import os
import pathlib
import platform
import shutil
import sys
import time
from typing import List, Optional, Sequence

from common.errors import Parser, UserError, entry_point
from common.reporting.run_folder import RunFolder
from hccl import launch

NETWORKS = {
    'wideresnet': 'WideResNet_ID0175_for_TensorFlow',
    'xception': 'Xception_ID0178_for_TensorFlow',
    'resnest': 'resnest_ID0181_for_TensorFlow',
}
# train_performance_*.sh: enough steps for a steady rate
PERFORMANCE = ['--steps', '100', '--log_interval', '10', '--eval_interval', '0']


def _parser() -> Parser:
    def switch(text: str) -> bool:
        if text.lower() not in ('true', 'false'):
            raise argparse.ArgumentTypeError("'%s' is neither True nor False" % text)
        return text.lower() == 'true'

    parser = Parser(prog='train_full_1p.sh', description=__doc__)
    parser.add_argument('model', choices=sorted(NETWORKS), help=argparse.SUPPRESS)
    parser.add_argument('kind', choices=['full', 'performance'], help=argparse.SUPPRESS)
    parser.add_argument('devices', type=int, choices=[1, 8], help=argparse.SUPPRESS)
    parser.add_argument('--data_path', help='folder of the data, needed')
    parser.add_argument('--precision_mode', help='such as allow_mix_precision')
    for name, folder in (('over_dump', 'overflow_dump'), ('profiling', 'profiling')):
        parser.add_argument('--' + name, type=switch, help='True writes output/*/' + folder)
    parser.add_argument('--data_dump_flag', type=switch, help='True writes output/*/data_dump')
    parser.add_argument('--data_dump_step', default='10', help='the step to dump')
    return parser


def _run_flags(args: argparse.Namespace, output: pathlib.Path) -> List[str]:
    """The flags of the run script for those of ModelZoo."""
    flags = ['--do_train', 'True', '--data_path', args.data_path]
    flags += ['--output_path', str(output / 'ckpt')]
    if args.kind == 'performance':
        flags += PERFORMANCE
    for name, value in (
        ('precision_mode', args.precision_mode),
        ('over_dump', args.over_dump and output / 'overflow_dump'),
        ('data_dump', args.data_dump_flag and output / 'data_dump'),
        ('dump_step', args.data_dump_flag and args.data_dump_step),
        ('profiling', args.profiling and output / 'profiling'),
    ):
        flags += ['--' + name, str(value)] if value else []
    return flags


def _train(
    args: argparse.Namespace, run_flags: List[str], device: str, output: pathlib.Path
) -> None:
    for name in ('RANK_ID', 'RANK_SIZE', 'DEVICE_ID', 'ASCEND_DEVICE_ID'):
        os.environ.pop(name, None)  # ModelZoo sets them for one process; the launcher does for each
    root = pathlib.Path(__file__).resolve().parent.parent
    script = root / (args.model + '_tf') / ('run_%s.py' % args.model)
    devices = os.environ.get('DEVICES') or (device if args.devices == 1 else '0-7')
    arguments = ['--devices', devices, '--log_dir', str(output), '--', sys.executable, str(script)]
    try:
        launch.main(arguments + _run_flags(args, output) + run_flags)
    except SystemExit as end:
        if end.code:
            raise


def _report(args: argparse.Namespace, device: str, output: pathlib.Path, seconds: int) -> None:
    run = RunFolder(output / 'ckpt')
    ranks, batch = run.session['ranks'], run.session['global_batch']
    rate = run.rows['end'][-1].get('images_per_second') or 0.0
    losses = [row['loss'] for row in run.rows['train']]
    figure = run.eval.get(run.score, '')
    kind = 'acc' if args.kind == 'full' else 'perf'
    case = '%s_bs%d_%dp_%s' % (NETWORKS[args.model], batch // ranks, ranks, kind)
    lines = {
        'Network': NETWORKS[args.model],
        'RankSize': ranks,
        'BatchSize': batch // ranks,
        'DeviceType': platform.machine(),
        'CaseName': case,
        'ActualFPS': rate,
        'TrainAccuracy': figure,
        'TrainingTime': '%.2f' % (1000 * batch / rate) if rate else '',
        'ActualLoss': losses[-1] if losses else '',
        'E2ETrainingTime': seconds,
    }
    shutil.copyfile(str(output / 'rank_0.log'), str(output / ('train_%s.log' % device)))
    text = ''.join('%s = %s\n' % item for item in lines.items())
    (output / (case + '.log')).write_text(text)
    (output / ('train_%s_loss.txt' % case)).write_text(''.join('%s\n' % loss for loss in losses))
    print('------------------ Final result ------------------')
    print('Final Performance images/sec : %s' % rate)
    print('Final Train Accuracy : %s' % figure)
    print('E2E Training Duration sec : %d' % seconds)
    print(text, end='')


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    args, run_flags = _parser().parse_known_args(argv)
    if not args.data_path:
        raise UserError('--data_path is missing: give the folder of the data, --data_path=DATA')
    device = os.environ.get('ASCEND_DEVICE_ID') or '0'
    output = pathlib.Path('output', device).resolve()
    if output.exists():  # each start is a new training; the last one is kept beside it
        output.rename(output.with_name('%s.%d' % (device, time.time() * 1000)))
    output.mkdir(parents=True)
    start = time.time()
    _train(args, run_flags, device, output)
    _report(args, device, output, int(time.time() - start))


if __name__ == '__main__':
    main()
