"""ResNeSt's Task: the modules and names that `common` and `offline_inference` work with."""

from common.metrics import segmentation
from common.task import Offline, Task
from resnest_tf import (
    checkpoints,
    input_pipeline,
    model,
    model_mmsegmentation,
    model_port,
    test_time_augmentation,
)
from resnest_tf.config import ResNeStConfig

TASK = Task(
    config=ResNeStConfig,
    data=input_pipeline,
    models={'paper': model, 'mmsegmentation': model_mmsegmentation, 'port': model_port},
    metric=segmentation,
    checkpoints=checkpoints,
    # With ATC's default, float16 everywhere, the published port lost accuracy.
    offline=Offline(
        'resize/ResizeBilinear', input_pipeline.channel_statistics, 'allow_fp32_to_fp16'
    ),
    inference=test_time_augmentation.inference,
    eval_split='val',
)
