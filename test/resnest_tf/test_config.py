"""ResNeSt's configuration: what is refused and how, and what follows from other fields."""

import contextlib
import dataclasses

import numpy as np
import pytest
from cityscapesscripts.helpers import labels as official

from common.errors import UserError
from resnest_tf.config import ResNeStConfig


@pytest.mark.parametrize(
    'fields, message',
    [
        (dict(num_classes=1), 'num_classes: 1 is not legal; give at least 2'),
        (dict(num_classes=256), 'num_classes: 256 .*at most 255'),
        (dict(dropout_rate=1.0), r'dropout_rate: 1.0 is not legal; 0 <= dropout_rate < 1'),
        (dict(aspp_dropout=1.0), 'aspp_dropout: 1.0'),
        (dict(aspp_dropout=0.5, variant='mmsegmentation'), 'aspp_dropout: 0.5.*variant paper'),
        (dict(variant='port', depth=101), "depth: 101 is not legal; the port's network has depth"),
        (dict(image_pooling=[7]), r'image_pooling: \[7\] is not legal; give \[height, width\]'),
        (dict(image_pooling=[3, 0]), r'image_pooling: \[3, 0\]'),
        (dict(variant='port', image_pooling=[3, 3]), r'image_pooling: .* pools over \[7, 7\]'),
        (dict(min_scale=2.5), 'min_scale: 2.5 is not legal; it is above max_scale, 2'),
        (dict(crop_max_share=1.5), 'crop_max_share: 1.5'),
        (dict(ohem_threshold=1.5), 'ohem_threshold: 1.5 is not legal; give at most 1'),
        (dict(loss='ohem', label_smoothing=0.1), 'label_smoothing: 0.1 is not legal; loss ohem'),
        (dict(head_rate_factor=10.0, optimizer='adam'), 'head_rate_factor: 10.0.*momentum or sgd'),
        (dict(crop_width=31), 'crop_width: 31 is not legal; give at least 32'),
        (dict(slide_stride=1.1), 'slide_stride: 1.1 is not legal; give at most 1'),
        (dict(eval_scales=[]), r'eval_scales: \[\] is not legal; give at least one'),
        (dict(eval_scales=[1.0, 0.03]), r'eval_scales: .* shorter than 32 pixels'),
    ],
)
def test_illegal_values_are_refused_by_name(fields, message):
    ResNeStConfig().check()
    with pytest.raises(UserError, match=message):
        ResNeStConfig(**fields).check()


@pytest.mark.parametrize(
    'fields, message',
    [
        (dict(eval_scales=[0.5, 1.75]), 'eval_scales: .*1.75.*at most 1.72 for images 2048 pixels'),
        (dict(eval_scales=[1.72]), None),
        (dict(eval_scales=[0.5, 1.75], eval_mode='slide'), None),
        (dict(eval_scales=[3.0], image_width=1024), None),
        (dict(eval_mode='slide', crop_width=3537), 'crop_width: 3537 .*at most 3536'),
        (dict(eval_mode='slide', crop_width=3536), None),
        (dict(crop_width=4096, do_train=True), 'crop_width: 4096 .*at most 3536'),
        (dict(crop_width=4096, do_train=False), None),
        (dict(crop_width=4096, do_train=False, eval_mode='slide'), 'crop_width: 4096 '),
    ],
)
def test_what_is_too_wide_for_an_ascend_device_is_refused_there(fields, message):
    cfg = ResNeStConfig(**fields)
    cfg.check_device('cpu')
    with pytest.raises(UserError, match=message) if message else contextlib.nullcontext():
        cfg.check_device('npu')


def test_labels_are_those_of_cityscapes():
    theirs = [official.trainId2label[number] for number in range(19)]
    labels = ResNeStConfig().labels
    assert list(labels.names) == [label.name for label in theirs]
    assert labels.palette.tolist() == [list(label.color) for label in theirs]
    assert labels.ids.tolist() == [label.id for label in theirs]
    values = np.array([[0, 18], [13, 255]], np.uint8)
    assert labels.file_ids(values).tolist() == [[7, 33], [26, 0]]
    assert labels.colours(values)[1, 1].tolist() == [0, 0, 0]


def test_other_numbers_of_classes_have_numbered_names():
    labels = ResNeStConfig(num_classes=3).labels
    assert list(labels.names) == ['class 0', 'class 1', 'class 2']
    assert labels.file_ids(np.arange(3)).tolist() == [0, 1, 2]


def test_heads_may_have_a_rate_of_their_own():
    assert ResNeStConfig().rate_factors == {}
    assert ResNeStConfig(head_rate_factor=10.0).rate_factors == {'head': 10, 'auxiliary': 10}
    port = ResNeStConfig(variant='port', head_rate_factor=2.0).rate_factors
    assert port['Conv_64'] == port['Conv_71'] == 2 and 'Conv_63' not in port


def test_published_flags_become_the_fields_they_mean():
    cfg = ResNeStConfig(img_H=64, img_W=96, do_train=True, output_path='save/resnest.ckpt')
    resolved = cfg.resolve()
    assert (resolved.crop_height, resolved.crop_width, resolved.img_H) == (64, 96, None)
    assert resolved.image_height == 1024 and resolved.output_path == 'save'
    resolved = dataclasses.replace(cfg, do_train=False).resolve()
    assert (resolved.image_height, resolved.image_width, resolved.crop_height) == (64, 96, 512)
