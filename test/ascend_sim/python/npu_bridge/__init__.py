"""Stand-in for npu_bridge, the TF adapter of CANN, for machines without one (see
test/ascend_sim/README.md). Importing it patches tf.Session, where the real one registers graph
optimisation passes.
"""

import atexit

from ascend_sim import device, session

session.install()
atexit.register(device.finalise)
__version__ = 'v1.15.0'
