"""Stand-in for npu_bridge, the TF adapter of CANN, for machines without one (see
test/ascend_sim/README.md).

Differs from the real package: importing it loads no shared library, and it patches tf.Session where
the real one registers graph optimisation passes.
"""

import atexit

from ascend_sim import session

from npu_bridge.estimator.npu import npu_estimator
from npu_bridge.estimator.npu.npu_plugin import npu_close
from npu_bridge.hccl import hccl_ops
from npu_bridge.helper.helper import npu_bridge_handle
from npu_bridge.helper.helper import version as __version__

session.install()
atexit.register(npu_close)
__all__ = ['npu_bridge_handle', 'npu_estimator', 'hccl_ops', 'npu_close']
