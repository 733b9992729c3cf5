#!/usr/bin/env bash
# Trains on 8 devices:
#   train_8p.sh xception_tf/configs/xception_imagenet.yaml --data_path DATA --output_path RUN
exec "$(dirname -- "${BASH_SOURCE[0]}")/../hccl/run_model.sh" xception train 0-7 "$@"
