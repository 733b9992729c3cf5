"""GPU: one process per GPU, NCCL through Horovod, TensorFlow's automatic mixed precision."""

import tensorflow as tf
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from common.devices.hvd import HorovodDevice
from common.errors import UserError


def available() -> bool:
    """True if this TensorFlow was built for GPUs and sees one; takes no GPU memory."""
    listed = tf.config.experimental.list_physical_devices
    return tf.test.is_built_with_cuda() and bool(listed('GPU'))


class GPU(HorovodDevice):
    name = 'gpu'

    def __init__(self):
        if not available():
            raise UserError(
                '--device gpu: TensorFlow sees no GPU; install tensorflow-gpu==1.15.0 with CUDA'
                ' 10.0 and cuDNN 7.6, look at CUDA_VISIBLE_DEVICES, or give --device cpu'
            )
        super().__init__()
        self.open_first_session()

    def session_config(self, training: bool = False):
        config = super().session_config(training)
        config.gpu_options.allow_growth = True
        if not training:  # TensorFlow's switch for mixed precision holds for the whole process
            rewriter = config.graph_options.rewrite_options
            rewriter.auto_mixed_precision = RewriterConfig.OFF
        config.gpu_options.visible_device_list = str(self.local_rank)
        return config

    def wrap_optimizer(self, optimizer, cfg):
        optimizer = super().wrap_optimizer(optimizer, cfg)
        if cfg.precision == 'mixed':
            # Outermost, so that the scale is one number for all ranks: Inf or NaN in the averaged
            # gradient skips the step on each.
            optimizer = tf.train.experimental.enable_mixed_precision_graph_rewrite(
                optimizer, cfg.loss_scale
            )
        return optimizer
