#!/usr/bin/env bash
# From nothing to a trained, exported and checked model in a few minutes on a laptop: WideResNet-16-2 on scikit-learn's digits.
#   ./quickstart.sh [arguments of the run]     for example: ./quickstart.sh --learning_rate 0.1
#   ./quickstart.sh --fast                     two epochs instead of twelve: one minute
# Run again, it continues where it stopped. Start over: rm -r runs/quickstart
set -euo pipefail
CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")"

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    sed -n '2,5s/^# //p' "${BASH_SOURCE[0]##*/}"
    exit
fi
out=runs/quickstart
if [[ ${1:-} == --fast ]]; then
    out=runs/quickstart_fast
    set -- --epochs 2 "${@:2}"
fi
python=.venv/bin/python
recipe=wideresnet_tf/configs/wrn16_2_digits.yaml
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

step() { printf '\n=== %s  [%d s]\n' "$1" "$SECONDS"; }

offline() {  # BACKEND
    "$python" -m offline_inference.run --model wideresnet --config "$recipe" --model_path "$out/wideresnet.ckpt" \
        --data_path "$out/data" --output "$out/offline" --backend "$1"
}

numbers() {
    "$python" - "$out" <<'READ'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
online = json.loads((out / 'eval.json').read_text())
print('checkpoint  top-1 %.2f %% of %d images (step %d)' % (100 * online['top1'], online['images'], online['step']))
for backend, result in json.loads((out / 'offline/offline.json').read_text())['results'].items():
    print('%-10s  top-1 %.2f %%, the same prediction for %.2f %% of the images, %.2f ms a batch of %d' % (
        backend, 100 * result['offline']['top1'], 100 * result['equal_predictions'], result['latency_ms']['p50'], result['batch_size']))
for plot in sorted(out.glob('plots/*.png'))[:1]:
    print('curves      %s' % plot.parent.resolve())
READ
    echo "report      $PWD/$out/report.md"
}

./setup.sh

if [[ $# == 0 && -f $out/done ]]; then
    step "done before; to start over: rm -r $out"
    numbers
    exit
fi
rm -f "$out/done"

step "1/5 data"
"$python" -m wideresnet_tf.prepare_cifar --dataset digits --output "$out/data"

step "2/5 training and evaluation"
"$python" wideresnet_tf/run_wideresnet.py --config "$recipe" --data_path "$out/data" --output_path "$out" --do_train True "$@"

step "3/5 offline inference with ONNX Runtime"
offline onnx

step "4/5 offline inference with the frozen graph"
offline pb

step "5/5 report"
"$python" -m common.report "$out"

touch "$out/done"
step "done"
numbers
