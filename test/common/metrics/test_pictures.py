"""Pictures of an evaluation, as they are read back."""

import errno
import json
import os
import pathlib

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers import labels as official
from PIL import Image
from segmentation_data import COLOURS, Data, files, read, settings

from common.errors import UserError


def test_saved_predictions(data, tmp_path):
    data.tally(settings(tmp_path / 'saved'), is_chief=False)
    names = ['bonn_000002_000019', 'ulm_000000_000019', 'ulm_000001_000019']
    assert files(tmp_path / 'saved') == ['color/%s.png' % name for name in names] + [
        'labelIds/%s_pred_labelIds.png' % name for name in names
    ] + ['overlay/%s.png' % name for name in names]
    ids, colours, overlay = (
        read(tmp_path / 'saved' / name)
        for name in (
            'labelIds/bonn_000002_000019_pred_labelIds.png',
            'color/bonn_000002_000019.png',
            'overlay/bonn_000002_000019.png',
        )
    )
    assert ids.dtype == np.uint8 and ids.shape == (18, 24)
    np.testing.assert_array_equal(
        ids, np.vectorize(lambda number: official.trainId2label[number].id)(data.predictions[2])
    )
    np.testing.assert_array_equal(colours, COLOURS[data.predictions[2]])
    mean = (data.images[2].astype(float) + COLOURS[data.predictions[2]]) / 2
    assert np.abs(overlay - mean).max() <= 1


def test_names_of_records_without_one_and_names_that_are_no_file_names(tmp_path):
    data = Data(tmp_path / 'port', names=())
    data.tally(settings(tmp_path / 'saved'))
    assert files(tmp_path / 'saved' / 'color') == [
        'record_%06d.png' % number for number in range(3)
    ]
    with Image.open(str(tmp_path / 'saved/overlay/record_000001.png')) as overlay:
        mean = (data.images[1].astype(float) + COLOURS[data.predictions[1]]) / 2
        assert np.abs(np.array(overlay) - mean).max() <= 1
    Data(tmp_path / 'odd', names=('../../a b',)).tally(settings(tmp_path / 'inside'))
    assert files(tmp_path / 'inside' / 'color') == ['.._.._a_b.png']


@pytest.mark.parametrize('flag', ['--save_predictions', '--output_path'])
def test_a_folder_that_cannot_be_written(data, tmp_path, flag):
    (tmp_path / 'file').write_text('')
    cfg = (
        settings(tmp_path / 'file')
        if flag == '--save_predictions'
        else settings(output=tmp_path / 'file')
    )
    with pytest.raises(UserError, match='%s: .*file.*could not be written: .+; free space' % flag):
        data.tally(cfg)


def test_a_full_disk_leaves_no_half_file(data, tmp_path, monkeypatch):
    def write_bytes(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pathlib.Path, 'write_bytes', write_bytes)
    with pytest.raises(
        UserError, match='--save_predictions: .*could not be written: No space left on device'
    ):
        data.tally(settings(tmp_path / 'saved'))
    assert files(tmp_path / 'saved') == []


# Samples for the report


def positions(picture, part):
    """Left edges of where `part` is exactly within `picture`."""
    height, width, _ = part.shape
    return [
        x
        for y in range(len(picture) - height + 1)
        for x in range(picture.shape[1] - width + 1)
        if (picture[y, x] == part[0, 0]).all()
        and (picture[y : y + height, x : x + width] == part).all()
    ]


def test_samples_show_image_truth_prediction_and_overlay_side_by_side(data, tmp_path):
    data.tally(settings(output=tmp_path / 'run'))
    picture = read(tmp_path / 'run/samples/ulm_000001_000019.png')
    truth = np.where((data.labels[1] == 255)[..., None], 0, COLOURS[data.labels[1] % 19]).astype(
        np.uint8
    )
    overlay = cv2.addWeighted(data.images[1], 0.5, COLOURS[data.predictions[1]], 0.5, 0)
    found = [
        positions(picture, part)
        for part in (data.images[1], truth, COLOURS[data.predictions[1]], overlay)
    ]
    assert [len(places) for places in found] == [1, 1, 1, 1] and found == sorted(found)


def test_samples_are_the_chiefs_first_four(tmp_path):
    data = Data(tmp_path / 'val', names=['ulm_%06d_000019' % number for number in range(6)])
    data.tally(settings(output=tmp_path / 'other'), is_chief=False)
    assert not (tmp_path / 'other').exists()
    data.tally(settings(output=tmp_path / 'run'))
    samples = ['ulm_%06d_000019.png' % number for number in range(4)]
    assert files(tmp_path / 'run/samples') == ['gallery.json'] + samples
    listed = json.loads((tmp_path / 'run/samples/gallery.json').read_text())
    assert [picture['file'] for picture in listed['pictures']] == samples


def test_the_worst_images_have_the_most_wrong_pixels(tmp_path):
    names = ['ulm_%06d_000019' % number for number in range(8)]
    data = Data(tmp_path / 'val', names=names)
    data.predictions[:] = np.where(data.labels == 255, 0, data.labels)
    shares = [7, 3, 5, 1, 6, 2, 8, 4]  # rows of wrong pixels
    for number, rows in enumerate(shares):
        data.labels[number, :] = 0
        data.predictions[number] = 0
        data.predictions[number, :rows] = 1
    data.labels[0] = 255  # nothing to be wrong in
    data.tally(settings(output=tmp_path / 'run'))
    listed = json.loads((tmp_path / 'run/worst/gallery.json').read_text())
    order = [number for number in np.argsort(shares)[::-1] if number]
    assert [picture['file'] for picture in listed['pictures']] == [
        names[number] + '.png' for number in order[:6]
    ]
    height = data.labels.shape[1]
    assert listed['pictures'][0]['caption'] == '%s: %.1f %% of the pixels correct' % (
        names[6],
        100 * (1 - 8 / height),
    )


def test_samples_of_wide_images_are_scaled_down(tmp_path):
    data = Data(tmp_path / 'val', names=('ulm_000000_000019',), size=(300, 1300))
    data.labels[:], data.predictions[:] = 255, 8
    data.tally(settings(output=tmp_path / 'run'))
    picture = read(tmp_path / 'run/samples/ulm_000000_000019.png')
    assert 4 * 640 <= picture.shape[1] <= 4 * 640 + 80 and 148 <= picture.shape[0] <= 148 + 60
    assert len(positions(picture, np.tile(COLOURS[8], (147, 640, 1)))) > 0
    assert len(positions(picture, np.zeros((147, 640, 3), np.uint8))) > 0
