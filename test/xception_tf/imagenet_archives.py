"""A small ILSVRC2012 in the official layouts, for the tests of prepare_imagenet."""

import io

import cv2
import numpy as np
import tensorflow_records
from PIL import Image
from preparing import refusal, tar
from scipy.io import savemat

from xception_tf import prepare_imagenet

WORDS = {
    'n01440764': 'tench, Tinca tinca',
    'n01443537': 'goldfish, Carassius auratus',
    'n02105855': 'Shetland sheepdog, Shetland',
}
SYNSETS = list(WORDS)
VAL_LABELS = [SYNSETS[i] for i in (2, 0, 2, 1, 0)]  # of ILSVRC2012_val_00000001 etc.
# The kit's order is not sorted; above the classes is what they belong to.
KIT_ORDER = {1: 'n02105855', 2: 'n01440764', 3: 'n01443537', 4: 'n00001740'}


def pixels(seed):
    small = np.random.RandomState(seed).randint(0, 256, (3, 4, 3)).astype(np.uint8)
    size = 40 + seed % 5, 30 + seed % 7
    return cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)


def image(seed, kind='JPEG', mode='RGB', **options):
    stream = io.BytesIO()
    Image.fromarray(pixels(seed)).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def train_images():
    """{synset: {file name: JPEG}}"""
    return {
        synset: {'%s_%d.JPEG' % (synset, 10 * i + 7): image(100 * j + i) for i in range(4)}
        for j, synset in enumerate(SYNSETS)
    }


def val_images():
    return {'ILSVRC2012_val_%08d.JPEG' % (i + 1): image(1000 + i) for i in range(len(VAL_LABELS))}


def train_tar(content=None):
    """The archive of one archive for each class; they are not sorted."""
    classes = reversed(list((content or train_images()).items()))
    return tar({synset + '.tar': tar(files) for synset, files in classes})


def lines(words):
    return ''.join(word + '\n' for word in words).encode()


def class_names():
    return lines('%s %s' % item for item in WORDS.items())


def meta_mat():
    """The development kit's: a structure array of one column."""
    names = 'ILSVRC2012_ID WNID words gloss num_children children wordnet_height num_train_images'
    table = np.empty((len(KIT_ORDER), 1), [(name, 'O') for name in names.split()])
    for i, (number, synset) in enumerate(KIT_ORDER.items()):
        words = WORDS.get(synset, 'entity')
        table[i, 0] = float(number), synset, words, 'a gloss', 0.0, np.zeros((1, 0)), 0.0, 4.0
    stream = io.BytesIO()
    savemat(stream, {'synsets': table})
    return stream.getvalue()


def kit():
    numbers = {synset: str(number) for number, synset in KIT_ORDER.items()}
    data = 'ILSVRC2012_devkit_t12/data/'
    truth = lines(numbers[synset] for synset in VAL_LABELS)
    return {
        data + 'ILSVRC2012_validation_ground_truth.txt': truth,
        data + 'meta.mat': meta_mat(),
        'ILSVRC2012_devkit_t12/readme.txt': b'hello',
    }


def synset_list():
    return {'imagenet_2012_validation_synset_labels.txt': lines(VAL_LABELS)}


def run(source, output, *flags):
    prepare_imagenet.main(['--source', str(source), '--output', str(output), *map(str, flags)])


def refused(capsys, source, output, *flags):
    """The last line of what the command prints when it refuses; nothing is prepared then."""
    line = refusal(capsys, run, source, output, *flags)
    assert not (output / 'train').exists() and not (output / 'val').exists()
    return line


def read(folder):
    """The records as {feature without image/: number, text or, encoded, bytes}."""

    def text(key, value):
        return value.decode() if isinstance(value, bytes) and key != 'image/encoded' else value

    return [
        {key.replace('image/', ''): text(key, value) for key, value in record.items()}
        for record in tensorflow_records.read(folder)
    ]
