"""`python -m offline_inference.benchmark`."""

import json

import numpy as np
import pytest

from offline_inference import benchmark


def test_command(recipe, trained, capsys):
    for path in (trained[0], 'none'):
        benchmark.main(
            [
                '--model',
                'wideresnet',
                '--config',
                str(recipe()),
                '--model_path',
                path,
                '--batch_size',
                '2',
                '--rounds',
                '1',
                '--round_steps',
                '2',
            ]
        )
        result = json.loads(capsys.readouterr().out)
        assert result['model'] == 'wideresnet' and result['batch_size'] == 2
        assert result['onnx_to_pb'] == pytest.approx(
            result['onnx_images_per_second'] / result['pb_images_per_second'], rel=1e-2
        )


def test_rate(monkeypatch):
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(benchmark.time, 'perf_counter', lambda: next(clock))
    assert benchmark.rate(lambda images: None, np.zeros((4, 1)), 5) == 10.0  # 20 images in 2 s
