"""npu_bridge.estimator.npu.npu_saver. Differs: no gathering of sharded weight updates, which are
not modelled.
"""

import tensorflow.compat.v1 as tf


class NPUSaver(tf.train.Saver):
    """A Saver that is built at once, so it saves the variables that exist when NPUEstimator's
    model_fn returns.
    """
