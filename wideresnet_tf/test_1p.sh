#!/usr/bin/env bash
# Evaluates a checkpoint on 1 device: Ascend NPU, else GPU, else CPU. Another device: DEVICES=1 before the command.
#   test_1p.sh wideresnet_tf/configs/wrn28_10_cifar100.yaml --data_path DATA --model_path RUN/wideresnet.ckpt [--output_path OUT]
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../hccl/env.sh"
recipe=${1:?'give a recipe first, such as wideresnet_tf/configs/wrn28_10_cifar100.yaml'}

exec "$python" -m hccl.launch --devices "${DEVICES:-0}" -- "$python" "$root/wideresnet_tf/run_wideresnet.py" \
    --do_train False --config "$recipe" "${@:2}"
