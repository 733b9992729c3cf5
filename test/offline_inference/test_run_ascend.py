"""From a checkpoint through atc and msame or ais_bench (stand-ins of test/ascend_sim) to
offline.json; what is reused, and what is refused.
"""

import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from common.checkpoints import checkpoint
from offline_inference import ascend, atc, bins, freeze, msame, run, score, to_onnx

COUNT = 21  # records of the test split: 3 batches of 8, the last with 5


@pytest.fixture
def words(command, sim):
    return command


def read(output):
    return json.loads((output / 'offline.json').read_text())['results']


@pytest.fixture(scope='module')
def done(command, sim_for_module, tmp_path_factory):
    """A folder in which msame ran."""
    folder = tmp_path_factory.mktemp('done')
    with sim_for_module():
        run.main(command(folder, backend='msame'))
    return folder


@pytest.fixture
def converted(done, tmp_path):
    """A folder with the frozen graph and the .om, and nothing else."""
    folder = tmp_path / 'o'
    folder.mkdir()
    for name in ('manifest.json', 'wideresnet.pb', 'wideresnet.om'):
        shutil.copy(str(done / name), str(folder / name))
    return folder


@pytest.mark.parametrize(
    'backend, dtype',
    [
        ('pb', 'uint8'),
        ('onnx', 'uint8'),
        ('msame', 'float32'),
        ('msame', 'uint8'),
        ('ais_bench', 'uint8'),
    ],
)
def test_engines_agree(backend, dtype, words, trained, done, capfd):
    _, logits, labels = trained
    right = sklearn.metrics.accuracy_score(labels, logits.argmax(axis=1))
    assert 0 < right < 1
    run.main(words(done, backend=backend, input_dtype=dtype))
    assert (
        capfd.readouterr().out.splitlines()[-1] == '>>>>>  共 21 测试样本    accuracy:%.6f' % right
    )
    result = read(done)[backend + ('_uint8' if dtype == 'uint8' else '')]
    assert result['images'] == COUNT and result['equal_predictions'] == 1.0
    assert result['offline']['top1'] == result['online']['top1'] == pytest.approx(right)
    latency, largest = result['latency_ms'], np.abs(logits).max()
    assert 0 < latency['p50'] <= latency['p90'] <= latency['p99'] and result[
        'images_per_second'
    ] == pytest.approx(8000 / latency['mean'], rel=1e-2)
    if backend in ('pb', 'onnx'):
        assert (
            result['least_equal'] == 0.999 and result['max_abs_logit_difference'] < 1e-4 * largest
        )
    else:
        assert (
            result['precision_mode'] == 'force_fp16'
            and result['least_equal'] == 0.99
            and set(result['size_bytes']) == {'pb', 'om'}
        )
        assert 1e-6 * largest < result['max_abs_logit_difference'] < 2e-2 * largest  # float16
        assert result['software']['soc_version'] == 'Ascend910A'  # from npu-smi


def test_finished_steps_are_not_repeated(words, done, monkeypatch, capfd):
    run.main(words(done, backend='msame'))
    before = read(done)['msame']
    monkeypatch.setattr(freeze, 'freeze', None)
    monkeypatch.setattr('subprocess.run', None)
    run.main(words(done, backend='msame', soc_version='Ascend910A'))
    assert (
        read(done)['msame'] == before
        and capfd.readouterr().out.count('taken from an earlier run') >= 3
    )


def test_goes_on_after_an_interruption(words, converted, monkeypatch):
    """Stopped in msame, then in the scoring: batches, then results too, are there already."""

    def stop(*_):
        raise KeyboardInterrupt

    flags = words(converted, backend='msame')
    calls, tool = [], msame.TOOLS['msame']
    monkeypatch.setitem(msame.TOOLS, 'msame', tool._replace(execute=stop))
    with pytest.raises(SystemExit):
        run.main(flags)
    monkeypatch.setattr(ascend.Chunks, '_take', None)

    def count(*args):
        calls.append('msame')
        return tool.execute(*args)

    monkeypatch.setitem(msame.TOOLS, 'msame', tool._replace(execute=count))
    score_files = ascend.score_files
    monkeypatch.setattr(ascend, 'score_files', stop)
    with pytest.raises(SystemExit):
        run.main(flags)
    assert calls == ['msame'] and not (converted / 'offline.json').exists()
    monkeypatch.setattr(ascend, 'score_files', score_files)
    run.main(flags)
    assert calls == ['msame'] and read(converted)['msame']['equal_predictions'] == 1.0


def test_chunks(words, done, converted, monkeypatch):
    """2 batches, then 1; stopped between the two. Batches are never all on the disk, and the sums
    are those of the whole.
    """
    seen, tool = [], msame.TOOLS['msame']

    def watch(scratch, device_id):
        seen.append(sorted(path.name for path in (scratch / 'batches').iterdir()))
        assert len(list(converted.glob('msame/*/bins/batches/*.bin'))) == len(seen[-1])
        if len(seen) == 2:
            raise KeyboardInterrupt
        return tool.execute(scratch, device_id)

    monkeypatch.setitem(msame.TOOLS, 'msame', tool._replace(execute=watch))
    flags = words(converted, backend='msame', chunk=2)
    with pytest.raises(SystemExit):
        run.main(flags)
    shutil.rmtree(
        str(converted / 'msame' / '000002-000003' / 'bins')
    )  # as if it had been stopped earlier
    run.main(flags)
    assert [len(names) for names in seen] == [2, 1, 1]
    assert not list(converted.glob('msame/*/bins')) and not list(converted.glob('msame/*/results'))
    result, whole = read(converted)['msame'], read(done)['msame']
    for key in ('images', 'online', 'offline', 'equal_predictions', 'max_abs_logit_difference'):
        assert result[key] == pytest.approx(whole[key]), key


def test_readme_dumps_the_tensors_of_a_batch(done, tmp_path, monkeypatch):
    (place,) = done.glob('msame/*')
    readme = pathlib.Path(run.__file__).parent / 'README.md'
    code = re.search(r'```python\n(.*?)```', readme.read_text(), re.S).group(1)
    code = code.replace('OUT/msame/000000-000001', str(place))
    code = code.replace('OUT/M.pb', str(done / 'wideresnet.pb'))
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    (logits,) = tmp_path.glob('cpu/output_BiasAdd.0.*.npy')
    expected = np.load(str(place / 'bins' / 'logits.npy'))[:8]
    np.testing.assert_allclose(np.load(str(logits)), expected, rtol=1e-4, atol=1e-5)


def test_another_checkpoint_repeats_everything(words, trained, weights, done, tmp_path, capfd):
    output = tmp_path / 'o'
    shutil.copytree(str(done), str(output))
    other = {
        name: value * (1.5 if name == 'output/bias' else 1) + (1 if name == 'output/bias' else 0)
        for name, value in weights(trained[0]).items()
    }
    checkpoint.write(
        str(tmp_path / 'other.ckpt'),
        {name: np.asarray(value, np.float32) for name, value in other.items()},
    )
    run.main(words(output, backend='msame', model_path=tmp_path / 'other.ckpt'))
    assert 'taken from an earlier run' not in capfd.readouterr().out
    assert set(read(output)) == {'msame'}


def test_other_predictions_are_an_error(words, done, tmp_path, monkeypatch):
    """One prediction of 21: more than the 1 % that float16 is allowed."""
    shutil.copytree(str(done), str(tmp_path / 'o'))  # with its batches and results
    logits = score.read_logits

    def swapped(path, shape):
        values = logits(path, shape).copy()
        if path.name.startswith('000001'):
            values[3, [values[3].argmax(), values[3].argmin()]] = values[3].min(), values[3].max()
        return values

    monkeypatch.setattr(score, 'read_logits', swapped)
    for path in (tmp_path / 'o').glob('msame/*/score.json'):
        path.unlink()
    with pytest.raises(SystemExit) as exit_:
        run.main(words(tmp_path / 'o', backend='msame'))
    assert '95.238 % of the predictions are equal, 99.0 % are needed' in str(exit_.value.code)


def test_results_that_are_not_finite_name_their_image(words, done, tmp_path, monkeypatch, fails):
    shutil.copytree(str(done), str(tmp_path / 'o'))
    read_logits = score.read_logits

    def infinite(path, shape):
        values = read_logits(path, shape).copy()
        values[3, 0] = np.inf if path.name.startswith('000001') else 0
        return values

    monkeypatch.setattr(score, 'read_logits', infinite)
    for path in (tmp_path / 'o').glob('msame/*/score.json'):
        path.unlink()
    text = fails(run.main, words(tmp_path / 'o', backend='msame'))
    assert 'offline model: record 11: ' in text


def test_float32_engine_is_held_to_the_strict_rule(words, converted):
    run.main(words(converted, backend='msame', atc_precision_mode='force_fp32'))
    result = read(converted)['msame']
    assert (
        result['least_equal'] == 0.999
        and result['precision_mode'] == 'force_fp32'
        and result['max_abs_logit_difference'] < 1e-4
    )


def test_mistakes_before_anything_is_done(words, recipe, fails, tmp_path, monkeypatch):
    output = tmp_path / 'o'
    assert '--soc_version is for msame and ais_bench' in fails(
        run.main, words(output, backend='onnx', soc_version='Ascend310')
    )
    assert '--chunk: found 0, give a whole number, 1 or more' in fails(
        run.main, words(output, backend='msame', chunk=0)
    )
    assert 'AIPP normalises RGB images' in fails(
        run.main,
        words(
            output, backend='msame', input_dtype='uint8', config=recipe(normalization='per_image')
        ),
    )
    monkeypatch.setenv('PATH', '/nowhere')
    assert 'atc is not on PATH' in fails(run.main, words(output, backend='msame'))
    assert not output.exists()


def test_per_image_normalisation_goes_into_the_graph(words, recipe, tmp_path):
    run.main(
        words(tmp_path, backend='pb', input_dtype='uint8', config=recipe(normalization='per_image'))
    )
    assert read(tmp_path)['pb_uint8']['equal_predictions'] == 1.0
    graph = tf.GraphDef.FromString((tmp_path / 'wideresnet_uint8.pb').read_bytes())
    (placeholder,) = (node for node in graph.node if node.op == 'Placeholder')
    assert (
        placeholder.name == 'inputx' and placeholder.attr['dtype'].type == tf.uint8.as_datatype_enum
    )


def test_graph_with_the_other_input(words, recipe, trained, tmp_path, fails):
    flags = words(tmp_path / 'w.pb', input_dtype='uint8')
    freeze.main(flags)
    convert = words(tmp_path / 'w.om', frozen=tmp_path / 'w.pb', soc_version='Ascend310')
    assert 'its input_dtype is uint8' in fails(atc.main, convert)
    to_onnx.main(words(tmp_path / 'w.onnx', frozen=tmp_path / 'w.pb'))
    assert (tmp_path / 'w.onnx').stat().st_size > 10000


def test_step_by_step(words, trained, data, tools_here, tmp_path, monkeypatch, capsys):
    """Each command by itself gives what run gives; here the tools are processes."""
    monkeypatch.setattr(subprocess, 'run', tools_here)
    freeze.main(words(tmp_path / 'w.pb', data_path=data))
    atc.main(words(tmp_path / 'w.om', frozen=tmp_path / 'w.pb', input_dtype='uint8'))
    bins.main(words(tmp_path / 'bins', input_dtype='uint8'))
    msame.main(
        [
            '--om',
            str(tmp_path / 'w.om'),
            '--bins',
            str(tmp_path / 'bins'),
            '--output',
            str(tmp_path / 'results'),
        ]
    )
    score.main(
        words(tmp_path)[:-2]
        + ['--bins', str(tmp_path / 'bins'), '--results', str(tmp_path / 'results')]
    )
    right = (trained[1].argmax(1) == trained[2]).mean()
    assert (
        capsys.readouterr().out.splitlines()[-1] == '>>>>>  共 21 测试样本    accuracy:%.6f' % right
    )
