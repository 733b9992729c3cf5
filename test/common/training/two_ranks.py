"""python two_ranks.py DEVICE FOLDER SCRIPT [ARGUMENT ...]: a script on two ranks; cpu: through
Horovod, npu: on the Ascend stand-in.
"""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]
FOREIGN = (
    'RANK_',
    'CM_',
    'HCCL_',
    'DEVICE_',
    'ASCEND_',
    'HOROVOD_',
    'JOB_ID',
    'POD_NAME',
    'TF_CONFIG',
)

device, folder, *command = sys.argv[1:]
environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
simulation = ROOT / 'test' / 'ascend_sim'
environment.update(
    PYTHONPATH='%s:%s' % (ROOT, simulation / 'python'),
    PATH='%s:%s' % (simulation / 'bin', os.environ['PATH']),
    ASCEND_SIM_DIR=os.path.join(folder, 'sim'),
)
words = [
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
os.execve(sys.executable, words + [sys.executable] + command, environment)
