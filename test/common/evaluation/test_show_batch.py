"""--show_batch: what the network is trained on, under its labels."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from common.data import pipeline
from common.evaluation import show_batch


def test_the_images_are_those_of_training(configured):
    """Augmented by crop and flip: the same pixels as the first batch, enlarged by 3."""
    task, cfg = configured(flip=True, crop_pad=4)
    folder = pipeline.open_split(task, cfg, 'train')
    with tf.Graph().as_default(), tf.Session() as session:
        batch = pipeline.dataset(task, folder, cfg, 6, True, seed=cfg.seed)
        expected = session.run(tf.data.make_one_shot_iterator(batch).get_next()['image'])
    picture = show_batch.draw(task, cfg, folder, 6)
    assert picture.shape == (2 * (24 + 96) + 8, 4 * (96 + 8) + 8, 3)
    for index, image in enumerate(expected):
        top, left = 24 + index // 4 * (24 + 96), 8 + index % 4 * (96 + 8)
        cell = picture[top : top + 96 : 3, left : left + 96 : 3]
        np.testing.assert_array_equal(cell, image)


def test_augmentation_on_the_device_is_shown(configured):
    task, cfg = configured(cutout=16, flip=False, crop_pad=0)
    folder = pipeline.open_split(task, cfg, 'train')
    plain = show_batch.draw(task, configured(flip=False, crop_pad=0)[1], folder, 8)
    assert (show_batch.draw(task, cfg, folder, 8) != plain).any()


def test_command(run, recipe, data, tmp_path, capsys):
    flags = ['--config', recipe(), '--data_path', data, '--output_path', tmp_path]
    run('--show_batch', 1000, *flags)  # there are 64
    assert capsys.readouterr().out == '%s\n' % (tmp_path / 'batch.png')
    assert cv2.imread(str(tmp_path / 'batch.png')).shape[0] == 16 * (24 + 96) + 8
    with pytest.raises(SystemExit):
        run('--show_batch', 0, *flags)
    assert '--show_batch: found 0, give a whole number, 1 or more' in capsys.readouterr().err
