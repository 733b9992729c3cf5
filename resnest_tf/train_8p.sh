#!/usr/bin/env bash
# Trains on 8 devices:
#   train_8p.sh resnest_tf/configs/resnest50_cityscapes.yaml --data_path DATA --output_path RUN
exec "$(dirname -- "${BASH_SOURCE[0]}")/../hccl/run_model.sh" resnest train 0-7 "$@"
