"""A small Cityscapes in the official layout, for the tests of prepare_cityscapes."""

import io
import zipfile

import numpy as np
import tensorflow_records
from PIL import Image
from preparing import refusal

from resnest_tf import prepare_cityscapes

# The official list of labels: name, label id, train id (255: ignored).
LABELS = (
    'unlabeled 0 255, ego vehicle 1 255, rectification border 2 255, out of roi 3 255,'
    ' static 4 255, dynamic 5 255, ground 6 255, road 7 0, sidewalk 8 1, parking 9 255,'
    ' rail track 10 255, building 11 2, wall 12 3, fence 13 4, guard rail 14 255, bridge 15 255,'
    ' tunnel 16 255, pole 17 5, polegroup 18 255, traffic light 19 6, traffic sign 20 7,'
    ' vegetation 21 8, terrain 22 9, sky 23 10, person 24 11, rider 25 12, car 26 13, truck 27 14,'
    ' bus 28 15, caravan 29 255, trailer 30 255, train 31 16, motorcycle 32 17, bicycle 33 18,'
    ' license plate 255 255'
)
OFFICIAL = [
    (name, int(id), int(train_id))
    for name, id, train_id in (label.rsplit(' ', 2) for label in LABELS.split(', '))
]
IMAGES = {
    'train': [
        'aachen_000000_000019',
        'aachen_000001_000019',
        'ulm_000094_000019',
        'zurich_000121_000019',
    ],
    'val': ['frankfurt_000000_000294', 'munster_000173_000019'],
    'test': ['berlin_000000_000019', 'bonn_000045_000019', 'mainz_000000_000021'],
}
HEIGHT, WIDTH = 16, 32


def png(pixels, mode=None):
    """A PNG by Pillow, of RGB or grey pixels."""
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(stream, 'PNG')
    return stream.getvalue()


def picture(name, height=HEIGHT, width=WIDTH):
    """RGB"""
    random = np.random.RandomState(sum(name.encode()))
    return random.randint(0, 256, (height, width, 3)).astype(np.uint8)


def label(name, height=HEIGHT, width=WIDTH):
    """Label ids: every one of them somewhere."""
    ids = np.array([id for _, id, _ in OFFICIAL], np.uint8)
    return np.resize(np.random.RandomState(sum(name.encode())).permutation(ids), (height, width))


def train_ids(ids):
    table = {id: train_id for _, id, train_id in OFFICIAL}
    return np.vectorize(table.get)(ids).astype(np.uint8)


def place(kind, split, name, ending):
    return '%s/%s/%s/%s_%s' % (kind, split, name.split('_')[0], name, ending)


def left(split, name):
    return place('leftImg8bit', split, name, 'leftImg8bit.png')


def fine(split, name):
    return place('gtFine', split, name, 'gtFine_labelIds.png')


def image_files():
    return {
        left(split, name): png(picture(name)) for split, names in IMAGES.items() for name in names
    }


def label_files():
    """Also what else is beside them; the labels of test are dummies."""
    content = {}
    for split, name in ((split, name) for split, names in IMAGES.items() for name in names):
        ids = np.full((HEIGHT, WIDTH), 3, np.uint8) if split == 'test' else label(name)
        for ending, data in (
            ('labelIds.png', png(ids)),
            ('color.png', png(picture(name[::-1]))),
            ('instanceIds.png', png(label(name).astype(np.uint16))),
            ('polygons.json', b'{}'),
        ):
            content[place('gtFine', split, name, 'gtFine_' + ending)] = data
    return content


def write_zip(path, content, compression=zipfile.ZIP_DEFLATED):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(str(path), 'w', compression) as archive:
        for name, data in {'README': b'read me', 'license.txt': b'licence', **content}.items():
            archive.writestr(name, data)
    return path


def run(source, output, *flags):
    sources = source if isinstance(source, list) else [source]
    words = ['--source', *sources, '--output', output, *flags]
    prepare_cityscapes.main([str(word) for word in words])


def refused(capsys, source, output, *flags):
    """The last line of what the command prints when it refuses; nothing is prepared then."""
    line = refusal(capsys, run, source, output, *flags)
    assert not any((output / split).exists() for split in IMAGES)
    return line


def read(folder):
    """{name: (image, label)} of the records in their order."""
    found = {}
    for record in tensorflow_records.read(folder):
        height, width, channels = (record.pop(key) for key in ('height', 'width', 'channels'))
        image, label = (np.frombuffer(record.pop(key), np.uint8) for key in ('image', 'label'))
        name = record.pop('filename').decode()
        assert not record and name not in found
        found[name] = image.reshape(height, width, channels), label.reshape(height, width)
    return found


def check_records(output):
    """Asserts that the three splits hold all images, in BGR, and their labels as train ids."""
    for split, names in IMAGES.items():
        found = read(output / split)
        assert list(found) == names
        for name, (image, classes) in found.items():
            assert np.array_equal(image, picture(name)[:, :, ::-1])
            ignored = np.full((HEIGHT, WIDTH), 255)
            assert np.array_equal(classes, ignored if split == 'test' else train_ids(label(name)))
