#!/usr/bin/env bash
# As ModelZoo's: train_full_1p.sh --data_path=DATA [--precision_mode=M --over_dump=True --profiling=True]
exec "$(dirname -- "${BASH_SOURCE[0]}")/../../hccl/run_model.sh" resnest full 1 "$@"
