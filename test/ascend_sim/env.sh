#!/usr/bin/env bash
# Puts the stand-ins for CANN first: `. test/ascend_sim/env.sh` for this shell, or `test/ascend_sim/env.sh COMMAND ...`
# for one command, without what a job of this shell has set (RANK_*, DEVICE_ID, ...).
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH=${here%/test/ascend_sim}:$here/python${PYTHONPATH:+:$PYTHONPATH} PATH=$here/bin:$PATH
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  unset ${!RANK_@} ${!CM_@} ${!HCCL_@} ${!HOROVOD_@} DEVICE_ID ASCEND_DEVICE_ID JOB_ID POD_NAME TF_CONFIG
  exec "$@"
fi
