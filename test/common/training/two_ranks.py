"""python two_ranks.py DEVICE FOLDER SCRIPT [ARGUMENT ...]: a script on two ranks; cpu: through
Horovod, npu: on the Ascend stand-in.
"""

import os
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2]))
import forked_python  # noqa: E402

WITH_SIM = str(pathlib.Path(__file__).resolve().parents[2] / 'ascend_sim' / 'env.sh')

device, folder, *command = sys.argv[1:]
words = [
    WITH_SIM,
    sys.executable,
    '-m',
    'hccl.launch',
    '--device',
    device,
    '--devices',
    '0-1',
    '--log_dir',
    os.path.join(folder, 'logs'),
    '--',
]
environment = dict(os.environ, ASCEND_SIM_DIR=os.path.join(folder, 'sim'))
os.execve(WITH_SIM, words + forked_python.WORDS + command, environment)
