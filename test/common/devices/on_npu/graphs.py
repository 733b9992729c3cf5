"""What the training step of each set of flags holds. Arguments: recipe, data, flags in JSON."""

import json
import sys

import tensorflow as tf
from ascend_sim import graph_check, marks

from common import devices
from common.configuration import config
from common.data import pipeline
from common.training import model_fn
from wideresnet_tf.task import TASK

recipe, data = sys.argv[1:3]
device, found = devices.select('npu'), []
for words in json.loads(sys.argv[3]):
    with tf.Graph().as_default() as graph:
        cfg = config.parse(TASK.config, ['--config', recipe, '--data_path', data] + words.split())
        count = cfg.batch_size * cfg.accumulate
        folder = pipeline.open_split(TASK, cfg, 'train')
        iterator = tf.data.make_initializable_iterator(
            pipeline.dataset(TASK, folder, cfg, count, True, seed=1, rank=0, size=1)
        )
        spec = model_fn.build(TASK, cfg, device, total_steps=100, steps_per_epoch=4)(
            iterator.get_next(), None, tf.estimator.ModeKeys.TRAIN
        )
        ops, stack = (
            set(),
            [spec.train_op, spec.loss.op]
            + [
                graph.get_operation_by_name('train/' + name)
                for name in ('learning_rate', 'global_step')
            ],
        )
        while stack:
            op = stack.pop()
            if op not in ops:
                ops.add(op)
                stack += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
        own = [op for op in ops if marks.kind(op) is None]
        last_stage = iterator.initializer.inputs[0].op
        while last_stage.type in ('ModelDataset', 'OptimizeDataset'):
            last_stage = last_stage.inputs[0].op
        graph_check.check([spec.train_op], 4)
        found.append(
            dict(
                python=[op.name for op in own if 'PyFunc' in op.type],
                fed=[op.name for op in own if op.type.startswith('Placeholder')],
                strings=[
                    op.name
                    for op in own
                    if any(tensor.dtype.base_dtype == tf.string for tensor in op.outputs)
                    and any(
                        user.type != 'Assert'
                        for tensor in op.outputs
                        for user in tensor.consumers()
                    )
                ],
                unknown=[
                    tensor.name
                    for op in own
                    if op.type == 'IteratorGetNext'
                    for tensor in op.outputs
                    if not tensor.shape.is_fully_defined()
                ],
                host=[
                    op.name
                    for op in own
                    if 'Queue' in op.type
                    or 'Summary' in op.type
                    or op.type in ('Print', 'PrintV2', 'OneShotIterator')
                ],
                applies=sum('Apply' in op.type for op in own),
                variables=len(tf.trainable_variables()),
                drops=sum(marks.kind(op) == b'DropOutGenMask' for op in ops),
                last_stage=last_stage.type,
                names=len({op.name for op in ops}) == len(ops),
            )
        )
print(json.dumps(found))
