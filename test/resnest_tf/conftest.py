"""Lets the tests of this folder import resnest_networks."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
