"""`python -m offline_inference.benchmark`."""

import json
import threading

import numpy as np
import pytest

from offline_inference import benchmark


@pytest.mark.parametrize('trained_weights', [True, False])
def test_command(trained_weights, recipe, trained, capsys):
    words = ['--model', 'wideresnet', '--config', str(recipe()), '--batch_size', '2']
    words += ['--model_path', trained[0] if trained_weights else 'none']
    benchmark.main(words + ['--rounds', '1', '--round_steps', '2'])
    result = json.loads(capsys.readouterr().out)
    assert result['model'] == 'wideresnet' and result['batch_size'] == 2
    for mode in ('latency', 'throughput'):
        onnx, pb = (result['%s_%s_images_per_second' % (mode, name)] for name in ('onnx', 'pb'))
        assert result[mode + '_onnx_to_pb'] == pytest.approx(onnx / pb, rel=1e-2)


def test_rate(monkeypatch):
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(benchmark.time, 'perf_counter', lambda: next(clock))
    assert benchmark.rate(lambda images: None, np.zeros((4, 1)), 5) == 10.0  # 20 images in 2 s


def test_throughput_has_several_calls_at_a_time():
    together = threading.Barrier(3, timeout=60)
    benchmark.rate(lambda images: together.wait(), np.zeros((4, 1)), 6, streams=3)
