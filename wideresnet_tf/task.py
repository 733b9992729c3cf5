"""WideResNet's Task: the modules and names that `common` and `offline_inference` work with."""

from common.metrics import classification
from common.task import Offline, Task
from wideresnet_tf import checkpoints, input_pipeline, model, model_mindspore, model_port
from wideresnet_tf.config import WideResNetConfig

TASK = Task(
    config=WideResNetConfig,
    data=input_pipeline,
    models={'paper': model, 'port': model_port, 'mindspore': model_mindspore},
    metric=classification,
    checkpoints=checkpoints,
    offline=Offline('output/BiasAdd', input_pipeline.channel_statistics),
)
