"""The benchmark's arithmetic, and what its commands print and write."""

import functools
import json
import re
import types

import numpy as np
import pytest
import tensorflow as tf

from common import benchmark, devices
from common.errors import UserError
from common.reporting import performance, scaling


@pytest.fixture(autouse=True)
def little_memory(monkeypatch):
    """Limits are measured by copying 8 MB instead of 1 GB."""
    monkeypatch.setattr(performance, 'COPIED', 1 << 20)


@pytest.fixture
def command(recipe, data, capsys):
    """command(what, flag, ...): what the command prints."""

    def call(what, *flags, **changes):
        words = [what, '--config', recipe(device='cpu', **changes), '--data_path', data]
        benchmark.main([str(word) for word in words + list(flags)])
        return capsys.readouterr().out

    return call


def test_medians_spread_and_ratios_within_the_rounds():
    rates = {
        'input': [100.0, 300.0, 200.0],
        'port': [50.0, 100.0, 50.0],
        'real': [10.0, 9.0, 8.0],
        'synthetic': [10.0, 10.0, 10.0],
        'pytorch': [0.43219, 0.43219, 0.43219],
    }
    order = []

    def call(name):
        order.append(name)
        return rates[name][order.count(name) - 1]

    calls = {name: functools.partial(call, name) for name in rates}
    found = performance.alternate(calls, 3, [('input', 'port'), ('real', 'synthetic')])
    names = list(rates)
    assert order == names + names[::-1] + names
    assert len(found.pop('peak_memory_mb')) == 3
    assert found == {
        'input_images_per_second': 200.0,
        'input_spread': [100.0, 300.0],
        'port_images_per_second': 50.0,
        'port_spread': [50.0, 100.0],
        'real_images_per_second': 9.0,
        'real_spread': [8.0, 10.0],
        'synthetic_images_per_second': 10.0,
        'synthetic_spread': [10.0, 10.0],
        'pytorch_images_per_second': 0.432,
        'pytorch_spread': [0.432, 0.432],
        'input_to_port': 3.0,
        'real_to_synthetic': 0.9,
    }


def test_a_synthetic_batch_is_noise_of_the_same_types_and_shapes():
    rows = {
        'image': np.zeros([5, 8, 8, 3], np.uint8),
        'label': np.arange(5, dtype=np.int64),
        'weight': np.zeros([5, 2], np.float32),
    }
    dataset = tf.data.Dataset.from_tensor_slices(rows).batch(5, drop_remainder=True)
    found = benchmark.synthetic(dataset)
    assert tf.data.get_output_types(found) == tf.data.get_output_types(dataset)
    assert tf.data.get_output_shapes(found) == tf.data.get_output_shapes(dataset)
    with tf.Session() as session:
        batch = tf.data.make_one_shot_iterator(found).get_next()
        first, second = session.run(batch), session.run(batch)
    assert (first['image'] == second['image']).all() and first['image'].std() > 60
    assert (first['label'] == 0).all() and (first['weight'] == 0.5).all()


def test_everything_with_a_report(command, data, tmp_path, capsys):
    quick = ('--rounds', 1, '--round_steps', 2)
    found = json.loads(command('all', *quick, '--report', tmp_path))
    assert found['model'] == 'wideresnet' and found['batch_size'] == 16
    ratio = found['real_images_per_second'] / found['synthetic_images_per_second']
    assert found['real_to_synthetic'] == pytest.approx(ratio, abs=0.01)
    written = json.loads((tmp_path / 'benchmark.json').read_text())
    assert written.items() >= found.items() and written['host']['python'].startswith('3.7')
    text = (tmp_path / 'benchmark.md').read_text()
    *operators, others = found['operator_milliseconds'].items()
    assert len(operators) == 10 and others[0] == 'others' and 0 <= others[1]
    assert operators == sorted(operators, key=lambda item: -item[1]) and operators[-1][1] > 0
    assert any('Conv2DBackprop' in name for name, _ in operators)
    for name in ('input', 'real', 'synthetic', 'eval', 'sgemm_gflops', 'cpu', 'load', 'others'):
        assert '| %s ' % name in text
    assert re.fullmatch(
        r'graph [\d.]+, session [\d.]+, step [\d.]+', found['seconds_to_first_step']
    )
    assert len(found['peak_memory_mb']) == 1 and 100 < found['peak_memory_mb'][0] < 10000
    benchmark.main(['table', str(tmp_path), str(tmp_path)])
    page = capsys.readouterr().out
    assert page.startswith('# Performance') and page.count('TensorFlow 1.15') == 2
    assert page.count(text.split('\n\n')[1]) == 2 and str(data) not in page


def test_steps_are_timed_after_the_warm_up_and_one_is_traced():
    with tf.Graph().as_default():
        product = tf.matmul(tf.random.normal([9, 9]), tf.eye(9))
        watch = performance.TimedSteps(4, traced=True)
        with tf.train.SingularMonitoredSession([watch]) as session:
            for number in range(watch.total):
                assert (watch.meter.steps, watch.operators) == (min(4, max(0, number - 3)), {})
                session.run(product.op)
    assert watch.meter.steps == 4
    assert any('MatMul' in name for name in watch.operators)
    assert performance.TimedSteps(4, traced=False).total == 7


def test_operations_of_the_network(configured):
    """WRN-10-1: a multiplication and an addition for each weight of a kernel at each position."""
    task, cfg = configured()
    kernels = [(1024, 3, 16, 9)]  # positions, channels in and out, size
    for positions, before, after in ((1024, 16, 16), (256, 16, 32), (64, 32, 64)):
        kernels += [(positions, before, after, 9), (positions, after, after, 9)]
        kernels += [(positions, before, after, 1)] if before != after else []
    expected = 2 * sum(np.prod(kernel) for kernel in kernels)
    found = performance.limits(task, cfg, devices.select('cpu'))
    assert found['network_gflop_per_image'] * 1e9 == pytest.approx(expected, rel=0.05)
    limit = found['sgemm_gflops'] / found['network_gflop_per_image'] / 3
    assert found['train_limit_images_per_second'] == pytest.approx(limit, rel=0.02)


def program(path, text):
    path.write_text('#!/bin/sh\n%s\n' % text)
    path.chmod(0o755)
    return path


def test_a_peer_trains_the_same_network_on_as_many_threads(configured, tmp_path):
    task, cfg = configured()
    python = program(tmp_path / 'python', 'echo "$2" >%s/recipe; echo 12.5' % tmp_path)
    assert benchmark.peer_rate(str(python), task, cfg, steps=7, shape=[24, 32, 3]) == 12.5
    recipe = json.loads((tmp_path / 'recipe').read_text())
    for key in ('batch_size', 'depth', 'widen_factor', 'dropout_rate', 'num_classes'):
        assert recipe[key] == getattr(cfg, key)
    assert recipe['steps'] == 7 and recipe['threads'] >= 1 and recipe['shape'] == [24, 32, 3]
    assert benchmark.PEER.is_file()


@pytest.mark.parametrize(
    'text, said',
    [
        ("echo 'No module named torch' >&2; exit 1", 'No module named torch'),
        ('echo nothing', 'no figure'),
        (None, 'No such file'),
    ],
)
def test_a_peer_that_cannot_train_is_named(text, said, configured, tmp_path):
    python = tmp_path / 'python'
    if text:
        program(python, text)
    with pytest.raises(UserError) as error:
        benchmark.peer_rate(str(python), *configured(), steps=1, shape=[32, 32, 3])
    assert str(error.value).startswith('--peer_python %s: ' % python) and said in str(error.value)


@pytest.mark.parametrize('content', [None, '{"model": "wideresnet"}', '[1]', 'x'])
def test_a_table_of_other_files_is_refused(content, tmp_path):
    if content:
        (tmp_path / 'benchmark.json').write_text(content)
    with pytest.raises(UserError, match='benchmark.json is not the figures .*--report'):
        performance.page([str(tmp_path)])


def test_inference_is_elsewhere(command, capsys):
    with pytest.raises(SystemExit):
        command('inference')
    assert 'python -m offline_inference.benchmark' in capsys.readouterr().err


# Scaling


def test_a_ring_by_hand():
    link = scaling.Link(1e9, 1e-6)
    assert scaling.ring_seconds(4e6, 1, link) == 0
    assert scaling.ring_seconds(4e6, 4, link) == pytest.approx(6 * (1e-3 + 1e-6))
    # Two servers of 8: the whole within each, an eighth between them.
    links = (link, scaling.Link(0.5e9, 0))
    expected = 14 * (0.5e-3 + 1e-6) + 2 * (0.25e6 / 0.5e9)
    assert scaling.exchange_seconds(4e6, 16, links) == pytest.approx(expected)


def test_half_of_the_exchange_is_hidden_while_gradients_appear():
    link = (scaling.Link(1e9, 0),) * 2
    found = scaling.predict(4e6, batch=100, speed=1000, devices=4, links=link)
    assert found.exchange == pytest.approx(6e-3) and found.exposed == pytest.approx(3e-3)
    assert found.efficiency == pytest.approx(0.1 / 0.103)
    assert found.images_per_second == pytest.approx(400 / 0.103)
    slow = scaling.predict(4e8, batch=100, speed=1000, devices=4, links=link)
    assert slow.exposed == pytest.approx(0.6 - 0.1 / 3)  # the backward pass hides no more


@pytest.mark.parametrize(
    'parameters, batch, speed, devices, measured',
    [
        (25.6e6, 128, 412, 8, 0.962),  # ResNet-50 of TensorFlow 1, 8 V100: 3170 of 412 img/s
        (11.7e6, 256, 1902, 8, 0.942),  # ResNet variant on 8 Ascend 910: 14336 of 1902 img/s
    ],
)
def test_published_runs_stay_below_the_bound(parameters, batch, speed, devices, measured):
    links = scaling.LINKS['hccs+roce']
    bound = scaling.predict(4 * parameters, batch, speed, devices, links).efficiency
    assert measured < bound < measured + 0.06


@pytest.mark.parametrize('sync_bn, messages', [(None, 6), (True, 6), (False, 0)])
def test_synchronised_batch_norm_sends_two_messages_a_layer(sync_bn, messages, configured):
    _, cfg = configured()
    layers = {'bn%d/moving_mean' % i: [4] for i in range(3)}
    cfg = types.SimpleNamespace(
        **dict(vars(cfg), input_shape=(8, 8, 3), sync_bn=sync_bn, model='m')
    )
    args = types.SimpleNamespace(devices=[8], images_per_second=1.0, links='hccs+roce')
    assert '%d messages of batch norm' % messages in scaling.report(cfg, layers, args)


def test_scaling_of_a_recipe(command, capsys):
    text = command('scaling', '--images_per_second', 100, '--devices', '8,16')
    assert 'wideresnet: 0.3 MB of gradients a step, 16 images per device' in text
    assert '|       16 |' in text or '| 16 ' in text
    for flags, message in [
        ((), 'scaling needs --images_per_second'),
        (('--images_per_second', 'nan'), 'scaling needs --images_per_second N, a number above'),
        (('--images_per_second', 5, '--devices', '12'), '--devices: found 12, give numbers up'),
    ]:
        with pytest.raises(SystemExit):
            command('scaling', *flags)
        assert message in capsys.readouterr().err
