#!/usr/bin/env bash
# Evaluates on 1 device:
#   test_1p.sh wideresnet_tf/configs/wrn28_10_cifar100.yaml --data_path DATA --model_path RUN/wideresnet.ckpt
exec "$(dirname -- "${BASH_SOURCE[0]}")/../hccl/run_model.sh" wideresnet test 0 "$@"
