"""LeNet's Task."""

from common.metrics import classification
from common.task import Offline, Task
from lenet_tf import checkpoints, input_pipeline, model
from lenet_tf.config import LeNetConfig

TASK = Task(
    config=LeNetConfig,
    data=input_pipeline,
    models={'paper': model},
    metric=classification,
    checkpoints=checkpoints,
    offline=Offline('output/BiasAdd', input_pipeline.channel_statistics),
)
