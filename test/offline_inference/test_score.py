"""Files of logits in every form, their order, and the published line."""

import os
import types

import numpy as np
import pytest

from common.errors import UserError
from offline_inference import score


def test_files_of_the_newest_folder_in_the_batches_order(tmp_path):
    for stamp in ('20220922_170409', '2022922_17_4_9_955610'):
        (tmp_path / stamp).mkdir()
        for name in ('000002', '000000', '000001'):
            (tmp_path / stamp / (name + '_output_0.bin')).write_bytes(b'')
    os.utime(str(tmp_path / '2022922_17_4_9_955610'), (1, 1))
    names = ['%06d.bin' % number for number in range(3)]
    found = score.find_results(tmp_path, types.SimpleNamespace(names=names, checksum='1'))
    assert [path.stem for path in found] == ['%06d_output_0' % number for number in range(3)]
    assert {path.parent.name for path in found} == {'20220922_170409'}


@pytest.mark.parametrize('dtype', [np.float16, np.float32])
def test_type_of_binary_logits_shows_in_their_size(dtype, tmp_path):
    logits = np.random.RandomState(0).normal(size=(8, 4)).astype(dtype)
    logits.tofile(str(tmp_path / 'a_0.bin'))
    found = score.read_logits(tmp_path / 'a_0.bin', [8, 4])
    assert found.dtype == np.float32 and np.array_equal(found, logits)


def test_unreadable_results(tmp_path):
    np.zeros(5, np.float32).tofile(str(tmp_path / 'a_0.bin'))
    with pytest.raises(
        UserError, match='has 20 bytes; .8, 4. logits are 128 in float32, 64 in float16'
    ):
        score.read_logits(tmp_path / 'a_0.bin', [8, 4])
    (tmp_path / 'a_0.txt').write_text('1 2 3 \n')
    with pytest.raises(UserError, match='holds 3 numbers'):
        score.read_logits(tmp_path / 'a_0.txt', [8, 4])
    for content in (b'1 2 three 4', b'\xff\xfe'):
        (tmp_path / 'a_0.txt').write_bytes(content)
        with pytest.raises(UserError, match='not a number'):
            score.read_logits(tmp_path / 'a_0.txt', [2, 2])
    (tmp_path / 'a_0.txt').write_text('1 2 3 \n4 nan -inf \n')
    found = score.read_logits(tmp_path / 'a_0.txt', [2, 3])
    assert np.array_equal(np.nan_to_num(found[0]), [1, 2, 3])


def test_published_lines():
    assert (
        score.published_line(50000, {'loss': 1.0, 'top1': 0.78806})
        == '>>>>>  共 50000 测试样本    accuracy:0.788060'
    )
    segmented = {
        'loss': 1.0,
        'miou': 0.6645,
        'accuracy': 0.9465,
        'mean_accuracy': 0.7354,
        'frequency_weighted_iou': 0.9023,
    }
    assert (
        score.published_line(500, segmented)
        == '>>>>>  共 500 测试样本    MIoU: 0.664500 0.9465 0.7354 0.6645 0.9023'
    )
    assert score.published_line(500, {'loss': 1.0}) == ''
