#!/usr/bin/env bash
# Freezes and converts a checkpoint, runs it on the evaluation split on 1 device (Ascend: msame), and scores it beside the checkpoint.
#   start_inference.sh wideresnet wideresnet_tf/configs/wrn28_10_cifar100_port.yaml --model_path CKPT --data_path DATA --output OUT
# Models: wideresnet, xception, resnest. Without an NPU: --backend onnx. More flags: python -m offline_inference.run --help
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/../hccl/env.sh"
model=${1:?'give a model first: wideresnet, xception or resnest'}
recipe=${2:?'give its recipe second, such as wideresnet_tf/configs/wrn28_10_cifar100_port.yaml'}

exec "$python" -m offline_inference.run --backend msame --batch_size 1 --model "$model" --config "$recipe" "${@:3}"
