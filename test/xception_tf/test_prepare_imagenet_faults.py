"""prepare_imagenet on archives, images and labels of no use, and after an interruption."""

import io
import shutil

import numpy as np
import pytest
from imagenet_archives import (
    class_names,
    image,
    meta_mat,
    pixels,
    read,
    refused,
    run,
    train_images,
    train_tar,
    val_images,
)
from PIL import Image
from preparing import contents, described, stamps, tar, write_files

from common.data import records

pytestmark = pytest.mark.usefixtures('small_imagenet')


# Archives and labels


def test_validation_labels_that_are_of_no_use(tmp_path, capsys):
    source = write_files(tmp_path / 'source', {'ILSVRC2012_img_val.tar': tar(val_images())})

    def line():
        return refused(capsys, source, tmp_path / 'out')

    assert 'imagenet_2012_validation_synset_labels.txt or ILSVRC2012_devkit_t12.tar.gz' in line()
    truth = source / 'ILSVRC2012_validation_ground_truth.txt'
    truth.write_text('1\n2\n3\n1\n2\n')
    found = line()
    for part in ('own order', 'meta.mat', 'imagenet_2012_validation_synset_labels.txt'):
        assert part in found
    (source / 'meta.mat').write_bytes(meta_mat()[:100])
    assert 'meta.mat' in line()
    (source / 'meta.mat').write_bytes(meta_mat())
    truth.write_text('1\n2\n3\n1\n4\n')  # in meta.mat, but no class
    assert "does not fit the kit's meta.mat (KeyError: 4)" in line()
    truth.write_text('1\n2\n3\n')
    assert (
        'ILSVRC2012_val_00000004.JPEG is not one of ILSVRC2012_val_00000001.JPEG to'
        ' ILSVRC2012_val_00000003.JPEG' in line()
    )
    write_files(source, {'imagenet_2012_validation_synset_labels.txt': b'65\n970\n'})
    assert "expected one synset such as n01440764 a line, found '65 970'" in line()


INCOMPLETE = {
    'a class': '8 images of 2 classes, ILSVRC2012 train has 12 of 3 (missing: n01443537);'
    ' complete it, or use what is there with --no_verify',
    'an image': '11 images of 3 classes, ILSVRC2012 train has 12 of 3; complete it',
}


@pytest.mark.parametrize('missing', INCOMPLETE)
def test_incomplete_archives(official, tmp_path, capsys, missing):
    content = train_images()
    if missing == 'a class':
        content.pop('n01443537')
    else:
        content['n01443537'].popitem()
    write_files(official, {'ILSVRC2012_img_train.tar': train_tar(content)})
    write_files(official, {'synset_words.txt': class_names()})
    assert INCOMPLETE[missing] in refused(capsys, official, tmp_path / 'out')
    run(official, tmp_path / 'out', '--no_verify', '--split', 'train')
    assert described(tmp_path / 'out' / 'train')['count'] == sum(map(len, content.values()))


@pytest.mark.parametrize(
    'content, message',
    [
        (lambda: train_tar()[:20000], 'not a readable tar archive'),
        (lambda: b'hello' * 1000, 'not a readable tar archive'),
        (lambda: tar(val_images()), 'it is not the ILSVRC2012 training archive'),
    ],
)
def test_archives_that_are_none(official, tmp_path, capsys, content, message):
    write_files(official, {'ILSVRC2012_img_train.tar': content()})
    line = refused(capsys, official, tmp_path / 'out')
    assert message in line and 'ILSVRC2012_img_train.tar' in line


# Odd and damaged images


def test_odd_images_become_rgb_jpegs(official, tmp_path):
    """ImageNet has a PNG that is called .JPEG and JPEGs in CMYK; grey ones are legal. What they are
    is told by content.
    """
    content = train_images()
    odd = content['n02105855'] = {
        'n02105855_2933.JPEG': image(1, 'PNG'),
        'n02105855_1.JPEG': image(2, mode='CMYK', quality=100),
        'n02105855_2.JPEG': image(3, mode='L'),
        'n02105855_3.JPEG': image(4, 'PNG', 'RGBA'),
    }
    write_files(official, {'ILSVRC2012_img_train.tar': train_tar(content)})
    run(official, tmp_path / 'out', '--split', 'train')
    found = {record['filename']: record for record in read(tmp_path / 'out' / 'train')}
    usual = content['n01440764']['n01440764_7.JPEG']
    assert found['n01440764_7.JPEG']['encoded'] == usual
    assert found['n02105855_2.JPEG']['encoded'] == odd['n02105855_2.JPEG']
    for name, seed in (('2933', 1), ('1', 2), ('3', 4)):
        record = found['n02105855_%s.JPEG' % name]
        decoded = Image.open(io.BytesIO(record['encoded']))
        assert decoded.format == 'JPEG' and decoded.mode == 'RGB'
        assert (record['height'], record['width']) == pixels(seed).shape[:2]
        assert np.abs(np.asarray(decoded).astype(int) - pixels(seed)).mean() < 2


def damage(official, *names):
    content = train_images()
    for name in names:
        content[name[:9]][name] = content[name[:9]][name][:-100]
    write_files(official, {'ILSVRC2012_img_train.tar': train_tar(content)})


def test_unreadable_images_are_named(official, tmp_path, capsys):
    damage(official, 'n01443537_17.JPEG')
    line = refused(capsys, official, tmp_path / 'out', '--split', 'train')
    assert (
        'ILSVRC2012_img_train.tar: n01443537_17.JPEG is not a usable image (image file is truncated'
        in line
    )
    assert '--skip_corrupt N' in line
    run(official, tmp_path / 'out', '--split', 'train', '--skip_corrupt', 1, '--shards', 3)
    assert 'warning: left out: ' in capsys.readouterr().err
    train = tmp_path / 'out' / 'train'
    assert 'n01443537_17.JPEG' not in {record['filename'] for record in read(train)}
    metadata = described(train)
    assert metadata['count'] == 11 == records.Folder.open(train).count
    assert sum(shard['records'] for shard in metadata['shards']) == 11


def test_more_unreadable_images_than_allowed(official, tmp_path, capsys):
    names = ['n01443537_17.JPEG', 'n01440764_7.JPEG', 'n02105855_37.JPEG']
    damage(official, *names)
    flags = '--split train --skip_corrupt 2 --shards 12'.split()
    line = refused(capsys, official, tmp_path / 'out', *flags)
    assert '3 items cannot be used, --skip_corrupt 2 allows fewer' in line
    assert all(name in line for name in names)


# Restart


def test_finished_files_survive_an_interruption(tmp_path, capsys):
    source, clean, out = tmp_path / 'source', tmp_path / 'clean', tmp_path / 'out'
    for synset, files in train_images().items():
        write_files(source / 'train' / synset, files)
    run(source, clean, '--shards', 4)
    last = read(clean / 'train')[-1]
    file = source / 'train' / last['class/synset'] / last['filename']
    file.write_bytes(b'broken')
    assert str(file) in refused(capsys, source, out, '--shards', 4)
    kept = stamps(out / '.train.unfinished', 'train-*.tfrecord')
    assert sorted(map(str, kept)) == ['train-%05d-of-00004.tfrecord' % shard for shard in range(3)]
    file.write_bytes(last['encoded'])
    run(source, out, '--shards', 4)
    assert contents(out) == contents(clean)
    assert kept.items() <= stamps(out / 'train').items()
    assert [path.name for path in out.iterdir()] == ['train']


def test_a_prepared_split_stays(official, tmp_path, capsys):
    out = tmp_path / 'out'
    run(official, out)
    before = stamps(out)
    capsys.readouterr()
    run(official, out, '--limit_per_class', 1)
    assert stamps(out) == before
    assert 'train: already there (12 records), left as it is' in capsys.readouterr().err
    shutil.rmtree(str(out / 'val'))
    (tmp_path / 'empty').mkdir()
    run(tmp_path / 'empty', out)
    assert 'empty: holds neither ILSVRC2012_img_val.tar nor val/\n' in capsys.readouterr().err
    assert (out / 'train').is_dir()


def test_a_folder_of_others_stays(official, tmp_path):
    mine = write_files(tmp_path / 'other', {'train/a.txt': b'mine'})
    with pytest.raises(SystemExit):
        run(official, mine)
    assert list(mine.rglob('*')) == [mine / 'train', mine / 'train' / 'a.txt']
