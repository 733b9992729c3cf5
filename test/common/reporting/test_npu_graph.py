"""What is counted of a training step for an Ascend device."""

import json
import pathlib

import pytest
import tensorflow as tf

from common.reporting import npu_graph

ROOT = pathlib.Path(__file__).resolve().parents[3]
RECIPES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob('*_tf/configs/*.yaml'))


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as made:
        yield made


@pytest.mark.parametrize(
    'build, expected',
    [
        # A 3x3 convolution from 4 to 8 channels, 6x6 results of 2 images.
        (
            lambda x: tf.nn.conv2d(x, tf.zeros([3, 3, 4, 8]), 1, 'SAME'),
            2 * 6 * 6 * 8 * 3 * 3 * 4 * 2,
        ),
        (
            lambda x: tf.nn.depthwise_conv2d(x, tf.zeros([3, 3, 4, 1]), [1] * 4, 'SAME'),
            2 * 6 * 6 * 4 * 3 * 3 * 2,
        ),
        (
            lambda x: tf.nn.conv2d_backprop_input(
                [2, 6, 6, 4], tf.zeros([3, 3, 4, 8]), tf.zeros([2, 6, 6, 8]), [1] * 4, 'SAME'
            ),
            2 * 6 * 6 * 8 * 3 * 3 * 4 * 2,
        ),
        (
            lambda x: tf.nn.conv2d_backprop_filter(
                x, [3, 3, 4, 8], tf.zeros([2, 6, 6, 8]), [1] * 4, 'SAME'
            ),
            2 * 6 * 6 * 8 * 3 * 3 * 4 * 2,
        ),
        (lambda x: tf.matmul(tf.zeros([5, 7]), tf.zeros([5, 9]), True), 2 * 7 * 5 * 9),
        (lambda x: x + 1, 2 * 6 * 6 * 4),
    ],
)
def test_operations(build, expected):
    assert npu_graph.flops(build(tf.zeros([2, 6, 6, 4])).op) == expected


@pytest.mark.parametrize(
    'expected, build',
    [
        ('ai_core', lambda x, n: x[:, 1:]),
        ('ai_cpu', lambda x, n: x[:, ::-1]),
        ('ai_core', lambda x, n: tf.cast(n, tf.float32)),
        ('ai_cpu', lambda x, n: tf.cast(tf.cast(n, tf.int64), tf.float32)),
        ('ai_core', lambda x, n: tf.slice(x, [1, 0], [2, 2])),
        ('ai_cpu', lambda x, n: tf.slice(x, [n, 0], [2, 2])),
        ('ai_core', lambda x, n: tf.reduce_sum(x)),
        ('ai_core', lambda x, n: tf.reduce_max(x)),
        ('ai_cpu', lambda x, n: tf.reduce_sum(tf.cast(x, tf.int32))),
        ('ai_cpu', lambda x, n: tf.nn.top_k(x, 2).values),
        ('ai_cpu', lambda x, n: tf.is_finite(x)),
        ('graph_engine', lambda x, n: tf.reshape(x, [-1])),
        ('host', lambda x, n: tf.py_func(abs, [x], tf.float32)),
        ('unknown', lambda x, n: tf.linalg.inv(x)),
    ],
)
def test_engine_of_an_operator(expected, build):
    x, n = tf.get_variable('x', [4, 4]), tf.get_variable('n', [], tf.int32)
    assert npu_graph.engine(build(x, n).op) == expected


def test_nodes_that_stand_for_one_op_are_one(graph):
    def standing(op, kind):
        op._set_attr(npu_graph.STANDS_FOR, tf.AttrValue(s=kind))
        return op.outputs[0]

    x = tf.get_variable('x', [4])
    first = standing(tf.exp(x).op, b'HcomAllReduce')
    shape = standing(tf.constant([2, 2]).op, b'HcomAllReduce')
    standing(tf.reshape(first, shape).op, b'HcomAllReduce')
    length = standing(tf.constant([4]).op, b'DropOutGenMask')
    standing(tf.reshape(x, length).op, b'DropOutGenMask')
    standing(tf.abs(x).op, b'')
    kinds = [npu_graph.device_type(op) for op in npu_graph.device_ops(graph)]
    assert kinds.count('HcomAllReduce') == kinds.count('DropOutGenMask') == 1
    assert 'Abs' not in kinds and 'Exp' not in kinds


COUNT = """
import dataclasses, json, sys
from common import models
from common.configuration import config
from common.reporting import npu_graph
from resnest_tf import model_port
from xception_tf import model as xception
# A deeper network of the same recipe repeats the ops of a shallow one.
shallow = {'wideresnet': ['--depth', '10'], 'resnest': ['--depth', '14']}
# These have one depth.
model_port._BLOCKS = model_port._BLOCKS[3:5]
xception.range = lambda first, end: [first]
first, measured = None, {}
for path in sys.argv[1:]:
    recipe = config.read_yaml(path)
    flags = ['--config', path, '--data_path', 'nowhere', '--allow_other_batch', 'True']
    if (recipe['model'], recipe.get('variant')) != ('resnest', 'port'):
        flags += shallow.get(recipe['model'], [])
    if path.endswith('resnest14_scenes.yaml'):
        flags += ['--loss', 'ohem']  # no recipe has it
    task, cfg = models.configure(recipe['model'], flags)
    cfg = dataclasses.replace(cfg, published={})
    key = repr(cfg)  # two recipes may differ in depth alone
    first = first or key
    ranks = 8 if key == first else 1  # collectives are the same in every recipe
    if key not in measured:
        measured[key] = npu_graph.measure(task, cfg, ranks)
    print(json.dumps([path, measured[key]]), flush=True)
"""
# Operators of AI CPU that a step cannot do without, see common/ascend/op_engines.json.
EXPLAINED = {'IteratorGetNext', 'DropOutGenMask'}


@pytest.mark.slow
@pytest.mark.parametrize('model', ['wideresnet', 'xception', 'resnest'])
def test_a_step_of_every_recipe_is_one_graph_of_the_device(model, start, tmp_path):
    """One graph, nothing fed, no loops, and nothing on AI CPU or unknown but what is explained."""
    (tmp_path / 'count.py').write_text(COUNT)
    recipes = [path for path in RECIPES if path.startswith(model)]
    launcher = [ROOT / 'test' / 'ascend_sim' / 'env.sh']
    process = start(*recipes, cwd=ROOT, launcher=launcher, script=tmp_path / 'count.py')
    status, out, error = process.finish(1200)
    assert status == 0, error
    counts = dict(json.loads(line) for line in out.splitlines() if line.startswith('["'))
    assert sorted(counts) == recipes and counts[recipes[0]]['ranks'] == 8
    for recipe, found in counts.items():
        kept = {key: found[key] for key in ('device_graphs', 'feeds', 'v1_loops')}
        assert kept == {'device_graphs': 1, 'feeds': 0, 'v1_loops': 0}, recipe
        assert set(found['ai_cpu_because']) <= EXPLAINED, recipe
        assert 'unknown' not in found['op_types'] and 'host' not in found['op_types'], recipe
        assert found['float16_share_of_flops'] > 0.5, recipe
        assert (found['collectives']['count'] > 10) == (found['ranks'] == 8), recipe
        kinds = dict(found['op_types']['ai_core'], **found['op_types']['ai_cpu'])
        assert kinds.get('DropOutGenMask') == kinds.get('DropOutDoMask'), recipe
