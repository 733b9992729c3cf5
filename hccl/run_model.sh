#!/usr/bin/env bash
# Behind the train and test scripts of every model. One process per device: Ascend NPU, else GPU, else CPU.
#   run_model.sh wideresnet train|test 0-7 [RECIPE] [flags of run_wideresnet.py]
#       DEVICES=0-3 in front takes other devices. Without a recipe the published port's is run, without any
#       argument on the folders that the port's own scripts name.
#   run_model.sh wideresnet full|performance 1|8 --data_path=DATA [flags]
#       as the scripts in ModelZoo's test folders
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
model=$1 action=$2 devices=$3
shift 3
if [[ $action == full || $action == performance ]]; then
    exec "$python" -m hccl.modelzoo "$model" "$action" "$devices" "$@"
fi

recipe=()
if [[ $# -gt 0 && $1 != -* ]]; then
    recipe=(--config "$1")
    shift
elif [[ $# == 0 ]]; then
    case $model-$action in
        wideresnet-train) set -- --model_path model/wideresnet.ckpt --data_path train_data --output_path model_save ;;
        wideresnet-test)  set -- --model_path model_save/wideresnet.ckpt --data_path test_data --batch_size 100 ;;
        xception-train)   set -- --model_path model/xception_model.ckpt --data_path train_data --output_path model_save ;;
        xception-test)    set -- --model_path model_save/xception_model.ckpt --data_path test_data --batch_size 100 ;;
        resnest-train)    set -- --pre_model premodel/resnest.ckpt --train_data train_data/cityscapes_train.tfrecords \
                              --model_save_dir save_npu_model/resnest.ckpt ;;
        resnest-test)     set -- --model_path save_npu_model/resnest.ckpt --train_data test_data/cityscapes_val.tfrecords \
                              --img_H 1024 --img_W 2048 ;;
    esac
fi
do_train=False
[[ $action != train ]] || do_train=True
exec "$python" -m hccl.launch --devices "${DEVICES:-$devices}" -- "$python" "$root/${model}_tf/run_$model.py" \
    --do_train "$do_train" ${recipe[@]+"${recipe[@]}"} "$@"
