"""Stand-in for ais_bench, the successor of msame, on offline models of the stand-in for atc."""

import os
import sys

# Where the package `offline` is.
sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..'))
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
