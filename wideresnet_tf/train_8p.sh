#!/usr/bin/env bash
# Trains on 8 devices:
#   train_8p.sh wideresnet_tf/configs/wrn28_10_cifar100.yaml --data_path DATA --output_path RUN
exec "$(dirname -- "${BASH_SOURCE[0]}")/../hccl/run_model.sh" wideresnet train 0-7 "$@"
