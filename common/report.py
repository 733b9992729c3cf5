"""Writes report.md and plots/ of a run: `python -m common.report RUN_FOLDER`."""

import argparse
from typing import Optional, Sequence

from common.errors import entry_point
from common.reporting import report


@entry_point
def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        prog='python -m common.report', description='Writes report.md and plots/ of a run.'
    )
    parser.add_argument('run_folder', help='the --output_path of a run')
    print(report.write(parser.parse_args(argv).run_folder))


if __name__ == '__main__':
    main()
