"""Reports of runs, written from the files in their folders.

python -m common.report RUN                     report.md, report.html and plots/ in RUN
python -m common.report --compare RUN_A RUN_B   comparison.html: curves, figures, configuration
python -m common.report --results RUN ...       RESULTS.md: mean and spread over seeds
"""

import argparse
from typing import Optional, Sequence

from common.errors import Parser, entry_point


def _parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(prog='python -m common.report', description=__doc__)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument('run', nargs='?', help='the --output_path of a run')
    group.add_argument('--compare', nargs='+', metavar='RUN', help='runs to put side by side')
    group.add_argument('--results', nargs='+', metavar='RUN', help='finished runs to summarise')
    parser.add_argument(
        '--output', help='folder of --compare, default comparison; file of --results: RESULTS.md'
    )
    return parser.parse_args(argv)


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    args = _parse(argv)
    from common.reporting import compare, report, results  # they take seconds

    if args.compare:
        print(compare.write(args.compare, args.output or 'comparison'))
    elif args.results:
        print(results.write(args.results, args.output or 'RESULTS.md'))
    else:
        print(report.write(args.run))


if __name__ == '__main__':
    main()
