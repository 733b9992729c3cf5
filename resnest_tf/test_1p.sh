#!/usr/bin/env bash
# Evaluates on 1 device:
#   test_1p.sh resnest_tf/configs/resnest50_cityscapes.yaml --data_path DATA --model_path RUN/resnest.ckpt
exec "$(dirname -- "${BASH_SOURCE[0]}")/../hccl/run_model.sh" resnest test 0 "$@"
