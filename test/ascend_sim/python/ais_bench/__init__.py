"""Stand-in for ais_bench, the successor of msame, on the offline models of the stand-in for atc;
see ../../OFFLINE.md.
"""

import os
import sys

sys.path.append(
    os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
)  # where the package `offline` is
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
