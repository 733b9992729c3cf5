"""WideResNet's Task: the modules and names that `common` and `offline_inference` work with."""

import pathlib

from common.metrics import classification
from common.task import Offline, Task
from wideresnet_tf import checkpoints, input_pipeline, model, model_mindspore, model_port
from wideresnet_tf.config import WideResNetConfig

TASK = Task(
    name='wideresnet',
    config=WideResNetConfig,
    aliases={'depths': 'depth', 'ks': 'widen_factor', 'epoch': 'epochs'},
    default_recipe=pathlib.Path(__file__).parent / 'configs' / 'wrn28_10_cifar100_port.yaml',
    data=input_pipeline,
    models={'paper': model, 'port': model_port, 'mindspore': model_mindspore},
    metric=classification,
    checkpoints=checkpoints,
    offline=Offline('output/BiasAdd', input_pipeline.channel_statistics),
)
