#!/usr/bin/env bash
# Behind train_1p.sh, train_8p.sh and test_1p.sh of every model:
#   run_model.sh wideresnet train 0-7 [RECIPE] [flags of run_wideresnet.py]
# One process per device: Ascend NPU, else GPU, else CPU. DEVICES=0-3 in front takes other devices;
# without a recipe, the published port's is run.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
model=$1 do_train=$([[ $2 == train ]] && echo True || echo False) devices=${DEVICES:-$3}
shift 3
recipe=()
if [[ $# -gt 0 && $1 != -* ]]; then
    recipe=(--config "$1")
    shift
fi
exec "$python" -m hccl.launch --devices "$devices" -- "$python" "$root/${model}_tf/run_$model.py" \
    --do_train "$do_train" ${recipe[@]+"${recipe[@]}"} "$@"
