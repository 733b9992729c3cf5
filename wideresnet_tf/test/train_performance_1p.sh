#!/usr/bin/env bash
# As ModelZoo's: --data_path=DATA [--precision_mode=M --over_dump=True --profiling=True]
exec "$(dirname -- "${BASH_SOURCE[0]}")/../../hccl/run_model.sh" wideresnet performance 1 "$@"
