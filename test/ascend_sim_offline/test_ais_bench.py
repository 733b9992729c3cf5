"""The stand-in for ais_bench: packs single images into batches, pads the last one, splits the
results, writes a summary.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture
def bench(atc, sim, tmp_path):
    """bench(word, ...): python -m ais_bench on net.om, batches of 2, float32."""
    assert atc(precision_mode='force_fp32').status == 0
    environment = dict(os.environ, PYTHONPATH=str(sim / 'python'), CUDA_VISIBLE_DEVICES='')

    def call(*words):
        return subprocess.run(
            [sys.executable, '-W', 'ignore', '-m', 'ais_bench', '--model', 'net.om'] + list(words),
            cwd=str(tmp_path),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
        )

    return call


def test_files_are_packed_and_split(bench, reference, tmp_path):
    images = np.random.RandomState(0).normal(0, 1, (3, 8, 8, 3)).astype(np.float32)
    (tmp_path / 'in').mkdir()
    for name, image in zip((1, 2, 10), images):
        np.save(str(tmp_path / 'in' / ('im_%d.x.npy' % name)), image[None])
    done = bench('--input', 'in', '--output', 'out', '--output_dirname', 'run', '--loop', '2')
    assert done.returncode == 0, done.stderr
    assert (
        '[INFO] NPU_compute_time (ms): min = ' in done.stdout
        and '[INFO] throughput 1000*batchsize.mean(2)/NPU_compute_time.mean(' in done.stdout
    )
    files = {
        path.name: np.fromfile(str(path), np.float32)
        for path in (tmp_path / 'out' / 'run').iterdir()
    }
    assert sorted(files) == ['im_10_0.bin', 'im_1_0.bin', 'im_2_0.bin']
    for name, image in zip((1, 2, 10), images):  # natural order: 10 is the one in the padded batch
        np.testing.assert_allclose(
            files['im_%d_0.bin' % name], reference(image[None])[0], rtol=1e-5, atol=1e-6
        )
    summary = json.loads((tmp_path / 'out' / 'run_summary.json').read_text())
    assert summary['filesinfo']['2'] == {
        'infiles': ['in/im_10.x.npy'],
        'outfiles': ['out/run/im_10_0.bin'],
    }
    assert summary['NPU_compute_time']['count'] == len(summary['npu_compute_time_list']) == 4
    assert summary['throughput'] == pytest.approx(2000 / summary['NPU_compute_time']['mean'])


def test_mistakes(bench, tmp_path):
    np.zeros(100, np.float32).tofile(str(tmp_path / 'a.bin'))
    done = bench('--input', 'a.bin')
    assert (
        done.returncode == 1
        and '[ERROR] arg0 tensorsize: 1536 filesize: 400 not match' in done.stdout
    )
    done = bench('--dymShape', 'x:1')
    assert done.returncode == 2 and 'error: unrecognized arguments: --dymShape' in done.stderr


def test_session(atc, reference, sim, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(sim / 'python'))
    from ais_bench.infer.interface import InferSession

    assert (
        atc(
            dynamic_batch_size='1,4', input_shape='inputx:-1,8,8,3', precision_mode='force_fp32'
        ).status
        == 0
    )
    session = InferSession(0, 'net.om')
    images = np.random.RandomState(1).normal(0, 1, (4, 8, 8, 3)).astype(np.float32)
    with pytest.raises(RuntimeError, match='profiles'):
        session.infer([images])
    session.set_dynamic_batchsize(4)
    (output,) = session.infer([images])
    assert np.array_equal(output, reference(images))
    with pytest.raises(RuntimeError, match='in size:768 needsize:3072 not match'):
        session.infer([images[:1]])
    with pytest.raises(RuntimeError):
        InferSession(0, 'missing.om')
