"""Xception's Task: the modules and names that `common` and `offline_inference` work with."""

from common.metrics import classification
from common.task import Offline, Task
from xception_tf import checkpoints, input_pipeline, model
from xception_tf.config import XceptionConfig

TASK = Task(
    config=XceptionConfig,
    data=input_pipeline,
    models={'paper': model},
    metric=classification,
    checkpoints=checkpoints,
    offline=Offline('dense/BiasAdd', input_pipeline.channel_statistics),
    eval_split='val',
    final_checkpoint='xception_model.ckpt',
)
