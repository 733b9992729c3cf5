"""`python -m offline_inference.benchmark`."""

import json
import threading

import numpy as np
import pytest

from common.reporting import performance
from offline_inference import benchmark


@pytest.mark.parametrize('trained_weights', [True, False])
def test_command(trained_weights, recipe, trained, tmp_path, capsys):
    words = ['--model', 'wideresnet', '--config', str(recipe()), '--batch_size', '2']
    words += ['--model_path', trained[0] if trained_weights else 'none']
    words += ['--rounds', '1', '--round_steps', '2', '--report', str(tmp_path)]
    benchmark.main(words)
    result = json.loads(capsys.readouterr().out)
    assert result['model'] == 'wideresnet' and result['settings'] == '--batch_size 2'
    for mode in ('latency', 'throughput'):
        onnx, pb = (result['%s_%s_images_per_second' % (mode, name)] for name in ('onnx', 'pb'))
        ratio = result['%s_onnx_to_%s_pb' % (mode, mode)]
        assert ratio == pytest.approx(onnx / pb, rel=1e-2)
    page = performance.page([str(tmp_path)])
    assert '| throughput_onnx |' in page and 'x throughput_pb' in page


def test_rate(monkeypatch):
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(benchmark.time, 'perf_counter', lambda: next(clock))
    assert benchmark.rate(lambda images: None, np.zeros((4, 1)), 5) == 10.0  # 20 images in 2 s


def test_throughput_has_several_calls_at_a_time():
    together = threading.Barrier(3, timeout=60)
    benchmark.rate(lambda images: together.wait(), np.zeros((4, 1)), 6, streams=3)
