"""More groups, as in readers.py: archives, images, exported models and command lines."""

import shutil

import numpy as np
from damage import changed_bytes, damage_file, fresh
from judge import call, require_kept, snapshot, whole_splits
from readers import GROUPS, group, require  # noqa: F401

from common.errors import UserError


def _records_in(folder):
    from common.data import records

    found = []
    for split in ('train', 'test', 'val'):
        if (folder / split).is_dir():
            read = records.Folder.open(folder / split)
            found += read.read(range(read.count))
    return found


@group
def archives(sources):
    """Damaged official archives: what they held, refused, or refused with nothing half written."""
    from resnest_tf import prepare_cityscapes
    from wideresnet_tf import prepare_cifar
    from xception_tf import prepare_imagenet

    cifar10, cifar100 = (
        (prepare_cifar.main, ['--dataset', name, '--no_verify', '--shards', '2'], name)
        for name in ('cifar10', 'cifar100')
    )
    cityscapes = (prepare_cityscapes.main, ['--allow_partial'], 'cityscapes')
    commands = {
        'cifar-10-python.tar.gz': cifar10,
        'cifar-100-binary.tar.gz': cifar100,
        'leftImg8bit_trainvaltest.zip': cityscapes,
        'gtFine_trainvaltest.zip': cityscapes,
        'ILSVRC2012_img_train.tar': (prepare_imagenet.main, ['--no_verify'], 'imagenet'),
    }
    whole = {name: set(_records_in(sources / 'records' / name)) for _, _, name in commands.values()}

    def case(random, place):
        from resnest_tf import cityscapes_files

        cityscapes_files.open_archive.cache_clear()
        archive = random.choice(sorted(commands))
        main, flags, name = commands[archive]
        source, output = fresh(sources / 'archives', place / 'source'), place / 'output'
        done = damage_file(source / archive, random)
        if 'prepare_cifar' in main.__module__:
            flags = [*flags, '--source', source / archive]
        else:
            flags = [*flags, '--source', source, *['--skip_corrupt', '2'] * random.randrange(2)]
        with whole_splits(output):
            call(main, [*flags, '--output', output])
        found = _records_in(output)
        require(found, done, 'no records')
        if name != 'imagenet':  # a plain tar, whose JPEGs have no checksum
            require(set(found) <= whole[name], done, 'other records than the archive held')

    return case


@group
def images(sources):
    """Damaged image files."""
    from common import models
    from common.data import images as reader
    from common.evaluation import predict

    tasks = [models.configure(name, []) for name in ('wideresnet', 'xception', 'resnest')]
    found = sorted((sources / 'images').iterdir())

    def case(random, place):
        data = changed_bytes(random.choice(found).read_bytes(), random)
        try:
            if random.random() < 0.4:
                pixels = reader.decode(data)
                require(pixels.dtype == np.uint8 and pixels.ndim == 3, pixels.shape)
            else:
                task, cfg = random.choice(tasks)
                require(predict.decode(task, cfg, data).shape == cfg.input_shape, 'another shape')
        except ValueError as error:
            raise UserError(str(error))

    return case


@group
def offline_files(sources):
    """Damaged batches, results, manifests and exported models."""
    from common import models
    from offline_inference import bins, manifest, msame, pb, reference, score, to_onnx

    task, cfg = models.configure('lenet', ['--batch_size', '8'])
    of = reference.Reference(task, cfg)
    made_by_msame = 'offline/msame/000000-000003'
    images = np.zeros([8, 16, 16, 3], np.float32)

    def read(folder):
        found = bins.Bins.open(folder / 'bins')
        rows = [row['logits'] for row in found.rows()]
        rows += [np.fromfile(str(folder / 'bins' / 'batches' / name)) for name in found.names]
        return found, np.concatenate([row.ravel() for row in rows]).tobytes()

    whole = read(sources / 'run' / made_by_msame)[1]
    logits = {
        '.pb': pb.engine(sources / 'run' / 'offline' / 'lenet.pb', of)(images),
        '.onnx': to_onnx.engine(sources / 'run' / 'offline' / 'lenet.onnx', of)(images),
    }

    def case(random, place):
        run = fresh(sources / 'run' / 'offline', place / 'offline')
        folder = run / 'msame' / '000000-000003'
        files = [path for path in sorted(folder.rglob('*')) if path.is_file()]
        files += [run / 'lenet.pb', run / 'lenet.onnx', run / 'manifest.json', run / 'lenet.om'] * 3
        target = random.choice(files)
        done = damage_file(target, random)
        if target.suffix in logits:
            engine = pb.engine if target.suffix == '.pb' else to_onnx.engine
            if manifest.sources(target) and target.is_file():
                found = engine(target, of)(images)
                require(np.allclose(found, logits[target.suffix]), done)
        elif target.parent == run:
            manifest.sources(run / 'lenet.pb')
            batches = bins.Bins.open(folder / 'bins')
            msame._check_model(run / 'lenet.om', batches)
        else:
            batches, content = read(folder)
            require(content == whole, done)
            paths = score.find_results(folder / 'results', batches)
            scored = score.score_files(of, batches, paths)
            require(scored.agreement.predictions == 24, done)
            of.figures(scored.offline)

    return case


@group
def weights(sources):
    """Damaged weights of other frameworks."""
    from common.checkpoints.importers import keras, torch

    readers = {'keras.h5': keras, 'torch.npz': torch}

    def case(random, place):
        name = random.choice(sorted(readers))
        shutil.copyfile(str(sources / 'weights' / name), str(place / name))
        damage_file(place / name, random)
        readers[name].read(place / name)

    return case


@group
def options(sources):
    """Command lines of every command with odd, missing and repeated words."""
    from command_lines import commands

    found = commands(sources)

    def case(random, place):
        main, words = random.choice(found)
        words = [str(word).replace('PLACE', str(place)) for word in words]
        odd = ['', ' ', '-1', '0', 'nan', 'inf', '1e400', '9' * 30, 'x', 'None', '--', '-', '--x']
        odd += ['[]', '{}', '[1', '"', "'", '\udcff', 'a b', '*', '/', '.', str(place), 'ä', '1.5']
        for _ in range(random.choice([1, 1, 2])):
            index = random.randrange(len(words)) if words else 0
            change = random.randrange(4)
            if change == 0:
                del words[index : index + 1]
            elif change == 1:
                words.insert(index, random.choice(odd))
            else:
                words[index : index + 1] = [random.choice(odd)]
        before = snapshot(sources)
        call(main, words)
        require_kept(sources, before, ['run/report.'])  # made anew by the command for reports

    return case
