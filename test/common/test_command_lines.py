"""Mistakes in a command line, and --help, end before TensorFlow is imported: it takes seconds."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECIPE = 'wideresnet_tf/configs/wrn16_2_digits.yaml'
OF_MODELS = [  # commands on any model, with what else they need
    'common.export_weights --output x',
    'offline_inference.atc --frozen x --output x',
    'offline_inference.benchmark',
    'offline_inference.bins --output x',
    'offline_inference.freeze --output x',
    'offline_inference.run --output x',
    'offline_inference.score --bins x --results x',
    'offline_inference.to_onnx --frozen x --output x',
]
RUN_SCRIPTS = ['%s_tf.run_%s' % (name, name) for name in ('resnest', 'wideresnet', 'xception')]
OTHERS = [
    'common.benchmark train --config ' + RECIPE,
    'common.checkpoint average run --output x',
    'common.doctor',
    'common.import_weights --model resnest --layout torch --weights x --output x',
    'common.reload --model resnest --output x',
    'common.report run',
    'hccl.launch',
    'hccl.modelzoo',
    'hccl.rank_table',
    'offline_inference.msame --om x --bins x --output x',
    'resnest_tf.draw_scenes --output x',
    'resnest_tf.prepare_cityscapes --output x --source x',
    'wideresnet_tf.prepare_cifar --output x --dataset digits',
    'xception_tf.prepare_imagenet --output x --source x',
]
MISTAKES = [
    *[(command + ' --no_such_flag=1', '') for command in RUN_SCRIPTS + OTHERS],
    *[
        (command + flags, said)
        for command in OF_MODELS
        for flags, said in [
            ('', 'required: --model'),
            (' --model wideresnt', "--model wideresnt is unknown; .*mean 'wideresnet'"),
            (' --model xception --widht 2', "unknown flag --widht .*mean 'width'"),
            (' --model xception --batch_size 0', "batch_size: '0' is not legal"),
            (' --model resnest --config no.yaml', '--config no.yaml: No such file'),
            (
                ' --model resnest --config xception_tf/configs/xception_imagenet.yaml',
                'another model',
            ),
        ]
    ],
    *[
        (command + ' --model resnest', '--model_path is missing')
        for command in OF_MODELS
        if re.search('export|freeze|run', command)
    ],
    *[
        (command + flags, said)
        for command in RUN_SCRIPTS
        for flags, said in [
            ('', '--model_path: evaluation needs a checkpoint'),
            (' --predict a.png', '--predict needs a checkpoint'),
            (' --predict a.png --model_path c --batch_siz 3', "mean 'batch_size'"),
            (' --predict a.png --model_path c --class_name d', "mean 'class_names'"),
            (' --show_batch 0', '--show_batch: found 0, give a whole number, 1 or more'),
        ]
    ],
    ('xception_tf.run_xception --data_format channels_first --device cpu', 'channels_first needs'),
    ('offline_inference.run --output x --model resnest --backend onxx', "mean 'onnx'"),
    ('offline_inference.run --output x --model resnest --chunk 3', '--chunk is for msame'),
    ('offline_inference.run --output x --model resnest --bakcend onnx', "mean 'backend'"),
    ('offline_inference.freeze --model resnest --ouptut x', '--output; found --ouptut'),
    ('common.export_weights --modle resnest --output x', '--model; found --modle'),
    (
        'common.import_weights --model x --layout torch --weights x --output x',
        '--model x is unknown',
    ),
    (
        'common.import_weights --model resnest --layout kears --weights x --output x',
        "--layout: kears is not legal; legal: keras, torch; did you mean 'keras'",
    ),
    (
        'common.import_weights --model resnest --layout torch --weights no.pth --output x',
        '--weights no.pth: no such file',
    ),
    ('common.benchmark train', '--config is missing'),
    ('common.benchmark train --rownds 2 --config ' + RECIPE, "mean 'rounds'"),
    (
        'common.benchmark scaling --config wideresnet_tf/configs/wrn16_2_digits.yaml',
        'scaling needs',
    ),
]
HELP = [
    *[command.split()[0] + ' --help' for command in OF_MODELS + OTHERS],
    *[command + ' --help' for command in RUN_SCRIPTS],
    *[RUN_SCRIPTS[0] + flags for flags in (' --predict --help', ' --show_batch --help')],
]
# Runs command lines in forks, in which importing TensorFlow and others fails.
RUNNER = """
import gc, json, os, runpy, sys
import cv2, google_crc32c, numpy, tqdm, common.models, common.ascend.cann
import resnest_tf.config, wideresnet_tf.config, xception_tf.config
gc.freeze()
sys.modules.update(dict.fromkeys(['tensorflow', 'matplotlib', 'onnx', 'sklearn']))
results = []
for words in json.load(sys.stdin):
    reader, writer = os.pipe()
    if not os.fork():
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        sys.argv = words.split()
        try:
            runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code or 0)
        sys.exit('did not end')
    os.close(writer)
    text = open(reader).read()
    results.append([os.wait()[1] >> 8, text])
print(json.dumps(results))
"""


@pytest.fixture(scope='module')
def ended():
    """{command line: (its status, what it printed)}"""
    lines = [words for words, _ in MISTAKES] + HELP
    done = subprocess.run(
        [sys.executable, '-c', RUNNER],
        input=json.dumps(lines),
        stdout=subprocess.PIPE,
        universal_newlines=True,
        cwd=str(ROOT),
        check=True,
    )
    return dict(zip(lines, json.loads(done.stdout)))


@pytest.mark.parametrize('words, said', MISTAKES)
def test_a_mistake_is_one_line(words, said, ended):
    status, text = ended[words]
    assert status == 2 and text.startswith('error: ') and text.count('\n') == 1, text
    assert re.search(said, text), text


@pytest.mark.parametrize('words', HELP)
def test_help(words, ended):
    status, text = ended[words]
    assert status == 0 and 'Traceback' not in text and len(text) > 100, text


def test_every_command_is_here():
    commands = {
        '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        for folder in ('common', 'hccl', 'offline_inference', '*_tf')
        for path in ROOT.glob(folder + '/**/*.py')
        if "if __name__ == '__main__'" in path.read_text()
    }
    listed = {words.split()[0] for words in OF_MODELS + RUN_SCRIPTS + OTHERS}
    assert commands - {'hccl.placeholder'} == listed  # which launch starts
