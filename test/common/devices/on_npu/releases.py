"""What each adapter release is given. Arguments: folder, releases."""

import contextlib
import io
import json
import os
import sys

import tensorflow as tf

from common.ascend import cann
from common.configuration import config, settings
from common.devices import npu

folder, releases = sys.argv[1], sys.argv[2:]
given = (
    '--op_select_implmode high_precision --op_compiler_cache_mode enable'
    ' --op_compiler_cache_dir {0}/cache --aoe_mode 2 --graph_memory_max_size 1000000'
    ' --variable_memory_max_size 1000000 --deterministic 1 --profiling {0}/profile'
    ' --modify_mixlist {0}/mixlist.json --data_dump {0}/dump --dump_step 0|5'
)
newer = (
    '--over_dump {0}/over --precision_mode_v2 mixed_float16 --jit_compile false'
    ' --enable_small_channel True --op_precision_mode {0}/mixlist.json'
    ' --fusion_switch_file {0}/mixlist.json --customize_dtypes {0}/mixlist.json'
)
cases = [words.format(folder).split() for words in (given, newer, '')]
for release in releases:
    read, write = os.pipe()
    if os.fork() == 0:  # after the import of TensorFlow, which takes seconds
        os.environ['ASCEND_SIM_RELEASE'] = release
        from npu_bridge.estimator.npu.npu_config import NPURunConfig

        device, result = npu.NPU(), [cann.adapter_release(NPURunConfig.__init__)]
        for case in cases:
            cfg = config.parse(settings.Config, case)
            with contextlib.redirect_stderr(io.StringIO()) as warned, tf.Graph().as_default():
                made = device.estimator(
                    lambda features, labels, mode: None, cfg, folder + '/model', 10, 5
                ).config
                device.wrap_optimizer(tf.train.GradientDescentOptimizer(0.1), cfg)
            (entry,) = made.session_config.graph_options.rewrite_options.custom_optimizers
            result.append(
                [
                    warned.getvalue(),
                    made.iterations_per_loop,
                    made.save_checkpoints_steps,
                    sorted(entry.parameter_map),
                ]
            )
        os.write(write, json.dumps(result).encode())
        os._exit(0)
    os.close(write)
    print(json.dumps([release] + json.loads(os.fdopen(read).read() or '[]')), flush=True)
