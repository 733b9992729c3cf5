#!/usr/bin/env bash
# Evaluates on 1 device:
#   test_1p.sh xception_tf/configs/xception_imagenet.yaml --data_path DATA --model_path RUN/xception_model.ckpt
exec "$(dirname -- "${BASH_SOURCE[0]}")/../hccl/run_model.sh" xception test 0 "$@"
