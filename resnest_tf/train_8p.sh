#!/usr/bin/env bash
# Trains on 8 devices: Ascend NPU, else GPU, else that many processes on the CPU. Other devices: DEVICES=0-3 before the command.
#   train_8p.sh resnest_tf/configs/resnest50_cityscapes.yaml --data_path DATA --output_path RUN [flags of run_resnest.py]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../hccl/env.sh"
recipe=${1:?'give a recipe first, such as resnest_tf/configs/resnest50_cityscapes.yaml'}

exec "$python" -m hccl.launch --devices "${DEVICES:-0-7}" -- "$python" "$root/resnest_tf/run_resnest.py" \
    --do_train True --config "$recipe" "${@:2}"
