#!/usr/bin/env bash
# Evaluates a checkpoint on 1 device: Ascend NPU, else GPU, else CPU. Another device: DEVICES=1 before the command.
#   test_1p.sh resnest_tf/configs/resnest50_cityscapes.yaml --data_path DATA --model_path RUN/resnest.ckpt [--output_path OUT]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../hccl/env.sh"
recipe=${1:?'give a recipe first, such as resnest_tf/configs/resnest50_cityscapes.yaml'}

exec "$python" -m hccl.launch --devices "${DEVICES:-0}" -- "$python" "$root/resnest_tf/run_resnest.py" \
    --do_train False --config "$recipe" "${@:2}"
