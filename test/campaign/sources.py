"""Sound inputs of every kind, small ones, for the campaign to damage."""

import io
import json
import os
import pathlib
import pickle
import sys
import tarfile
import zipfile

import cv2
import h5py
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / 'test' / 'example_model'
sys.path[:0] = [str(ROOT), str(EXAMPLE)]
SYNSETS = ('n01440764', 'n01443537', 'n02105855')
FOLDER_10, FOLDER_100 = 'cifar-10-batches-py', 'cifar-100-binary'


def make(folder):
    """Fills a folder with everything below; takes half a minute."""
    archives(folder / 'archives')
    tables(folder / 'tables')
    pictures(folder / 'images')
    weights(folder / 'weights')
    records(folder)
    trained(folder)
    return folder


def lenet_data(folder, train=64, test=24):
    """Digits for lenet_tf, two shards a split."""
    from lenet_tf import prepare_digits

    from common.data import digits, record_writer

    for split, (images, labels) in digits.load(16).items():
        count = train if split == 'train' else test
        record_writer.write(
            folder / split,
            list(zip(images[:count], labels[:count])),
            prepare_digits.encode,
            name='digits',
            split=split,
            schema=prepare_digits.SCHEMA,
            classes=[str(digit) for digit in range(10)],
            shards=2,
            workers=1,
        )
    return folder


def words(**flags):
    return [str(word) for name, value in flags.items() for word in ('--' + name, value)]


# 4 steps an epoch, 12 steps; evaluations at 4 and 8 and at the end.
TRAINING = dict(do_train=True, batch_size=16, epochs=3, save_checkpoints_steps=3, eval_interval=1)
TRAINING.update(log_interval=1)


def trained(folder):
    """run/: a finished run of lenet_tf, and in run/offline its exports and what msame made."""
    from lenet_tf.task import TASK

    from common import run
    from offline_inference import run as offline

    data, output = folder / 'records' / 'lenet', folder / 'run'
    run.main(TASK, words(data_path=data, output_path=output, **TRAINING))
    use_stand_ins()
    flags = dict(model='lenet', model_path=output / 'lenet.ckpt', data_path=data, batch_size=8)
    for backend in ('onnx', 'msame'):
        offline.main(words(output=output / 'offline', backend=backend, **flags))


def use_stand_ins():
    """Puts the stand-ins for the tools of Ascend on the path of what this process starts."""
    sim = ROOT / 'test' / 'ascend_sim'
    os.environ['PATH'] = '%s:%s' % (sim / 'bin', os.environ['PATH'])
    os.environ['PYTHONPATH'] = ':'.join(map(str, [ROOT, EXAMPLE, sim / 'python']))
    os.environ['ASCEND_SIM_PYTHON'] = sys.executable


def archives(folder):
    """The official archives of CIFAR-10, CIFAR-100, Cityscapes and ImageNet, in small."""
    folder.mkdir(parents=True)
    random = np.random.RandomState(0)
    names = ['data_batch_%d' % number for number in range(1, 6)] + ['test_batch']
    content = {
        name: pickle.dumps(
            {b'data': random.randint(0, 256, (4, 3072)).astype(np.uint8), b'labels': [0, 1, 2, 9]},
            protocol=2,
        )
        for name in names
    }
    content['batches.meta'] = pickle.dumps({b'label_names': list('abcdefghij')}, protocol=2)
    _tar(folder / 'cifar-10-python.tar.gz', FOLDER_10, content, 'w:gz')
    rows = random.randint(0, 20, (6, 3074)).astype(np.uint8).tobytes()
    content = {'train.bin': rows, 'test.bin': rows[: 3 * 3074]}
    content['fine_label_names.txt'] = b''.join(b'class_%d\n' % number for number in range(100))
    _tar(folder / 'cifar-100-binary.tar.gz', FOLDER_100, content, 'w:gz')
    for kind in ('leftImg8bit', 'gtFine'):
        with zipfile.ZipFile(str(folder / (kind + '_trainvaltest.zip')), 'w') as archive:
            for split, count in (('train', 3), ('val', 2)):
                for number in range(count):
                    colours = random.randint(0, 256, (32, 64, 3)).astype(np.uint8)
                    pixels = colours if kind == 'leftImg8bit' else colours[..., 0] % 34
                    name = 'aachen_%06d_000019_%s' % (number, kind)
                    name += '' if kind == 'leftImg8bit' else '_labelIds'
                    archive.writestr('%s/%s/aachen/%s.png' % (kind, split, name), _png(pixels))
    inner = {}
    for synset in SYNSETS:
        files = {'%s_%d.JPEG' % (synset, n): _jpeg(random) for n in range(3)}
        _tar(folder / 'inner.tar', '', files, 'w')
        inner[synset + '.tar'] = (folder / 'inner.tar').read_bytes()
    (folder / 'inner.tar').unlink()
    _tar(folder / 'ILSVRC2012_img_train.tar', '', inner, 'w')


def _tar(path, folder, content, mode):
    with tarfile.open(str(path), mode) as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(str(pathlib.PurePosixPath(folder, name)))
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def _png(pixels):
    return cv2.imencode('.png', pixels)[1].tobytes()


def _jpeg(random, height=80, width=90):
    small = random.randint(0, 256, (5, 6, 3)).astype(np.uint8)
    return cv2.imencode('.jpg', cv2.resize(small, (width, height)))[1].tobytes()


def pictures(folder):
    folder.mkdir()
    random = np.random.RandomState(1)
    (folder / 'a.jpg').write_bytes(_jpeg(random))
    (folder / 'b.png').write_bytes(_png(random.randint(0, 256, (20, 30, 3)).astype(np.uint8)))
    (folder / 'c.jpg').write_bytes(_jpeg(random, 300, 400))


def tables(folder):
    """Rank tables of one and two servers, and of the old kind."""
    folder.mkdir()
    servers = [
        {
            'server_id': '10.0.0.%d' % server,
            'device': [
                {'device_id': str(d), 'device_ip': '1.1.%d.%d' % (server, d), 'rank_id': str(rank)}
                for d, rank in ((0, 2 * server), (1, 2 * server + 1))
            ],
        }
        for server in range(2)
    ]
    for count in (1, 2):
        table = {'status': 'completed', 'version': '1.0', 'server_count': str(count)}
        table['server_list'] = servers[:count]
        (folder / ('servers_%d.json' % count)).write_text(json.dumps(table))
    devices = [{'device_id': '0', 'device_ip': '1.1.1.1'}]
    instance = {'pod_name': 'a', 'server_id': 's', 'rank_id': '0', 'devices': devices}
    group = {'group_name': 'g', 'device_count': '1', 'instance_count': '1', 'device_num': '1'}
    group.update(server_num='1', instance_list=[instance])
    table = {'status': 'completed', 'group_count': '1', 'group_list': [group]}
    (folder / 'groups.json').write_text(json.dumps(table))
    table.update(deploy_mode='lab', para_plane_nic_location='device')
    (folder / 'lab.json').write_text(json.dumps(table))


def weights(folder):
    """Weights of other frameworks: Keras' and PyTorch's as .npz."""
    folder.mkdir()
    with h5py.File(str(folder / 'keras.h5'), 'w') as file:
        file.attrs['layer_names'] = [b'conv', b'bn']
        for layer, names in (('conv', ['kernel:0']), ('bn', ['gamma:0', 'beta:0'])):
            group = file.create_group(layer)
            group.attrs['weight_names'] = [('%s/%s' % (layer, name)).encode() for name in names]
            for name in names:
                group.create_dataset('%s/%s' % (layer, name), data=np.ones((3, 2), np.float32))
    np.savez(str(folder / 'torch.npz'), **{'conv.weight': np.ones((2, 3, 1, 1), np.float32)})


def records(folder):
    """records/NAME: what the models' own commands make of the archives, and lenet's digits."""
    from resnest_tf import prepare_cityscapes
    from wideresnet_tf import prepare_cifar
    from xception_tf import prepare_imagenet

    source, target = folder / 'archives', folder / 'records'
    cifar = ['--no_verify', '--shards', 2]
    for name, more in (('cifar10', 'cifar-10-python'), ('cifar100', 'cifar-100-binary')):
        flags = words(dataset=name, source=source / (more + '.tar.gz'), output=target / name)
        prepare_cifar.main(flags + [str(word) for word in cifar])
    flags = words(source=source, output=target / 'cityscapes')
    prepare_cityscapes.main(flags + ['--allow_partial'])
    flags = words(source=source, output=target / 'imagenet', shards=1)
    prepare_imagenet.main(flags + ['--no_verify'])
    lenet_data(target / 'lenet')
