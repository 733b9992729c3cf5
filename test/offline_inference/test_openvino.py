"""OpenVINO beside the published logits, where it is installed; and what happens where it is not."""

import json
import pathlib
import sys
import types

import numpy as np
import pytest

from common.errors import UserError
from offline_inference import openvino_engine, run, to_onnx


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    monkeypatch.setitem(sys.modules, 'openvino.runtime', None)
    with pytest.raises(
        UserError, match='--backend openvino: .*openvino.*requirements-openvino.txt'
    ):
        openvino_engine.software()


def test_precision_is_for_openvino():
    words = ['--model', 'wideresnet', '--output', 'x', '--model_path', 'c', '--precision', 'bf16']
    with pytest.raises(UserError, match='--precision is for openvino, not for --backend onnx'):
        run._parse(words)
    assert run._parse([*words, '--backend', 'openvino'])[0].precision == 'bf16'


def test_one_request_a_thread(monkeypatch):
    requests = []

    class Model:
        def output(self, index):
            return 'logits'

        def create_infer_request(self):
            requests.append(types.SimpleNamespace(infer=lambda inputs: {'logits': inputs[0]}))
            return requests[-1]

    core = types.SimpleNamespace(compile_model=lambda *_: Model())
    runtime = types.SimpleNamespace(Core=lambda: core)
    monkeypatch.setattr(openvino_engine, '_runtime', lambda: runtime)
    infer = openvino_engine.engine(pathlib.Path('x.onnx'), 'f32')
    assert [infer(np.array([number]))[0] for number in range(3)] == [0, 1, 2]
    assert len(requests) == 1


@pytest.mark.parametrize('throughput', [False, True])
def test_computes_the_published_logits(throughput, known, frozen, infer_all, tmp_path):
    pytest.importorskip('openvino.runtime')
    to_onnx.convert(frozen('paper'), tmp_path / 'w.onnx', 'output/BiasAdd')
    infer = openvino_engine.engine(tmp_path / 'w.onnx', 'f32', throughput)
    logits = infer_all(infer, known('paper').images)
    np.testing.assert_allclose(logits, known('paper').logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('precision', [None, 'bf16'])
def test_scored_like_every_engine(precision, trained, recipe, data, tmp_path, capsys):
    pytest.importorskip('openvino.runtime')
    try:
        openvino_engine.software(precision)
    except UserError as error:
        pytest.skip(str(error))
    words = ['--model', 'wideresnet', '--config', str(recipe()), '--model_path', trained[0]]
    words += ['--data_path', str(data), '--output', str(tmp_path), '--backend', 'openvino']
    run.main(words + (['--precision', precision] if precision else []))
    results = json.loads((tmp_path / 'offline.json').read_text())['results']
    result = results['openvino_bf16' if precision else 'openvino']
    assert result['least_equal'] == (0.99 if precision else 0.999)
    assert result['equal_predictions'] == 1.0
    difference, largest = result['max_abs_logit_difference'], np.abs(trained[1]).max()
    assert difference < (0.05 if precision else 1e-4) * largest
    assert difference > 1e-4 * largest or not precision
