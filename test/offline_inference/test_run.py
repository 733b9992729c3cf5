"""The whole way, from a checkpoint to offline.json; its figures against scikit-learn and a
TensorFlow session of the test's own.
"""

import json
import sys
import time

import numpy as np
import pytest
import sklearn.metrics

from offline_inference import run
from offline_inference.engines import ENGINES

COUNT = 21  # records of the data set's test split; batches of 8 leave 5 over


def read(output):
    return json.loads((output / 'offline.json').read_text())


def test_figures_of_both_backends(command, trained, tmp_path, capsys):
    prefix, logits, labels = trained
    predicted = logits.argmax(axis=1)
    assert 0 < (predicted == labels).sum() < COUNT  # or half of what follows would prove nothing
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = {
        'loss': sklearn.metrics.log_loss(labels, probabilities, labels=range(4)),
        'top1': sklearn.metrics.accuracy_score(labels, predicted),
        'top5': 1.0,
    }  # of 4 classes
    for backend in ('onnx', 'pb'):
        run.main(command(tmp_path, backend=backend))
        out = capsys.readouterr().out
        assert out.splitlines()[-1] == '>>>>>  共 21 测试样本    accuracy:%.6f' % expected['top1']
        assert '%.6f' % expected['top1'] in out and 'same prediction as online: 100.000 % of' in out
        assert 'latency of a batch of 8: mean ' in out and ' images/s\n' in out
    content = read(tmp_path)
    assert (
        content['model'] == 'wideresnet'
        and content['checkpoint'] == prefix
        and set(content['results']) == {'onnx', 'pb'}
    )
    for backend, result in content['results'].items():
        assert (
            result['backend'] == backend and result['images'] == COUNT and result['batch_size'] == 8
        )
        for side in ('online', 'offline'):
            assert result[side] == pytest.approx(expected, rel=1e-4), (backend, side)
        assert result['equal_predictions'] == 1.0 and 0 < result['max_abs_logit_difference'] < 1e-4
        latency = result['latency_ms']
        assert (
            set(latency) == {'mean', 'p50', 'p90', 'p99'}
            and 0 < latency['p50'] <= latency['p90'] <= latency['p99']
        )
        assert result['images_per_second'] == pytest.approx(8 / latency['mean'] * 1000, rel=1e-2)
        kinds = ['pb', 'onnx'] if backend == 'onnx' else ['pb']
        assert result['size_bytes'] == {
            kind: (tmp_path / ('wideresnet.' + kind)).stat().st_size for kind in kinds
        }
        assert result['software']['tensorflow'].startswith('1.15.') and (
            'onnxruntime' in result['software']
        ) == (backend == 'onnx')


def test_every_backend_has_its_engine():
    assert set(run.BACKENDS) == set(ENGINES)


def engine(monkeypatch, change):
    """Puts change(the frozen graph's logits, call number from 0) in the place of the backend `pb`;
    returns the shapes of its inputs.
    """
    shapes, load = [], ENGINES['pb'].load

    def changed(*args):
        infer, files = load(*args)

        def call(images):
            assert images.dtype == np.float32
            shapes.append(images.shape)
            return change(infer(images), len(shapes) - 1)

        return call, files

    monkeypatch.setitem(ENGINES, 'pb', ENGINES['pb']._replace(load=changed))
    return shapes


def test_other_predictions_are_an_error(command, tmp_path, monkeypatch, capsys):
    def swapped(logits, call):
        if call == 2:  # one image of the second batch; call 0 is the warm-up
            logits[3, [logits[3].argmax(), logits[3].argmin()]] = logits[3].min(), logits[3].max()
        return logits

    engine(monkeypatch, swapped)
    with pytest.raises(SystemExit) as exit_:
        run.main(command(tmp_path, backend='pb'))
    assert '95.238 % of the predictions are equal, 99.9 % are needed' in str(
        exit_.value.code
    )  # a text: status 1
    assert read(tmp_path)['results']['pb']['equal_predictions'] == pytest.approx(20 / 21)


def test_other_logits_of_the_same_classes_are_measured(command, trained, tmp_path, monkeypatch):
    shapes = engine(monkeypatch, lambda logits, call: logits + 0.5)
    run.main(command(tmp_path, backend='pb'))
    result = read(tmp_path)['results']['pb']
    assert result['equal_predictions'] == 1.0 and result[
        'max_abs_logit_difference'
    ] == pytest.approx(0.5, abs=1e-4)
    assert result['offline'] == pytest.approx(result['online'], rel=1e-4)  # softmax does not see it
    assert shapes == [(8, 32, 32, 3)] * 4  # a warm-up and three batches


def test_padding_is_no_prediction(command, tmp_path, monkeypatch):
    """The last of 3 batches holds 5 records; what comes of its other 3 rows must not matter."""

    def spoiled(logits, call):
        if call == 3:
            logits[5:] = np.nan
        return logits

    engine(monkeypatch, spoiled)
    run.main(command(tmp_path, backend='pb'))
    assert read(tmp_path)['results']['pb']['equal_predictions'] == 1.0


def test_logits_that_are_not_finite_name_their_image(command, tmp_path, monkeypatch, fails):
    def diverged(logits, call):
        if call == 2:  # the second batch; call 0 is the warm-up
            logits[3, 0] = np.nan
        return logits

    engine(monkeypatch, diverged)
    text = fails(run.main, command(tmp_path, backend='pb'))
    assert 'offline model: record 11: ' in text and 'not finite' in text
    assert not (tmp_path / 'offline.json').exists()


def test_first_call_is_no_latency(command, tmp_path, monkeypatch):
    def slow(logits, call):
        time.sleep(1.5 if call == 0 else 0.05)
        return logits

    engine(monkeypatch, slow)
    run.main(
        command(tmp_path, backend='pb', image_num=4)
    )  # a single batch, which is measured all the same
    result = read(tmp_path)['results']['pb']
    assert result['images'] == 4 and 50 <= result['latency_ms']['p99'] < 1500


def test_memory_does_not_grow_with_the_images(
    command, port_records, images_and_labels, tmp_path, monkeypatch, resident
):
    """4000 images, which are 62 MB as they are and normalised, through both networks."""
    port_records(tmp_path / 'data' / 'test' / 'test.tfrecord', *images_and_labels(4000, seed=3))
    sizes = []
    engine(monkeypatch, lambda logits, call: sizes.append(resident()) or logits)
    run.main(command(tmp_path / 'o', backend='pb', data_path=tmp_path / 'data', batch_size=40))
    assert len(sizes) == 101 and max(sizes) - sizes[25] < 30e6


def test_results_of_another_checkpoint_are_dropped(command, trained, weights, tmp_path):
    (tmp_path / 'offline.json').write_text('{"results": [')  # nor does a broken file stop it
    run.main(command(tmp_path, backend='pb'))
    content = read(tmp_path)
    for checksum, kept in ((content['checksum'], {'pb', 'onnx'}), ('another', {'pb'})):
        other = dict(content, checksum=checksum, results={'onnx': content['results']['pb']})
        (tmp_path / 'offline.json').write_text(json.dumps(other))
        run.main(command(tmp_path, backend='pb'))
        assert set(read(tmp_path)['results']) == kept


def test_mistakes_are_explained(command, tmp_path, fails, monkeypatch):
    output = tmp_path / 'o'
    assert (
        '--backend: onxx is not legal; legal: onnx, openvino, pb, msame, ais_bench; did you mean'
        in fails(run.main, command(output, backend='onxx'))
    )
    assert 'no such folder' in fails(run.main, command(output, data_path=tmp_path / 'nowhere'))
    assert '21 records' in fails(run.main, command(output, image_num=22))
    assert 'no such checkpoint' in fails(run.main, command(output, model_path=tmp_path / 'no.ckpt'))
    assert 'does not fit the network' in fails(run.main, command(output, num_classes=5))
    (tmp_path / 'file').write_text('')
    assert 'file: ' in fails(run.main, command(tmp_path / 'file'))

    def missing(*_):
        raise AssertionError('nothing may be done before the packages are looked for')

    monkeypatch.setattr(run.Reference, 'restored', missing)
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert 'onnxruntime' in fails(run.main, command(output, backend='onnx'))
    assert not list(output.glob('*'))
