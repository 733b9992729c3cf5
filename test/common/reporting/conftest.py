"""Lets the tests of this folder import example_runs."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
