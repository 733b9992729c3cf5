#!/usr/bin/env bash
# Trains on 1 device:
#   train_1p.sh wideresnet_tf/configs/wrn28_10_cifar100.yaml --data_path DATA --output_path RUN
exec "$(dirname -- "${BASH_SOURCE[0]}")/../hccl/run_model.sh" wideresnet train 0 "$@"
