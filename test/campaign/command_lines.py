"""A sound command line of every command; PLACE stands for a folder to write in."""

from sources import use_stand_ins, words

from common import checkpoint, doctor, export_weights, import_weights, report, run
from hccl import rank_table
from offline_inference import atc, bins, freeze, msame, score, to_onnx
from offline_inference import run as offline
from resnest_tf import draw_scenes, prepare_cityscapes
from wideresnet_tf import prepare_cifar
from xception_tf import prepare_imagenet


def commands(sources):
    """[(main, words)]; the quick ones come first."""
    return quick(sources) + slow(sources)


def _run(argv):
    from lenet_tf.task import TASK

    run.main(TASK, argv)


def quick(sources):
    """Those that take less than a second."""
    use_stand_ins()
    folder, archives, table = sources / 'run', sources / 'archives', sources / 'tables'
    report.report._pictures = lambda run: []
    weights = dict(weights=sources / 'weights' / 'torch.npz', output='PLACE/out/w.ckpt')
    made = folder / 'offline' / 'msame' / '000000-000003'
    batches = dict(bins=made / 'bins', results=made / 'results')
    cifar = dict(dataset='cifar10', source=archives / 'cifar-10-python.tar.gz', shards=2)
    return [
        (rank_table.main, ['generate', *words(devices='0-3', server_ip='10.0.0.1')]
         + words(device_ips='1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4', output='PLACE/out.json')),
        (rank_table.main, ['merge', table / 'servers_2.json', *words(output='PLACE/out.json')]),
        (report.main, [sources / 'run']),
        (report.main, ['--compare', folder, folder, '--output', 'PLACE/out']),
        (report.main, ['--results', folder, '--output', 'PLACE/out.md']),
        (checkpoint.main, ['average', folder, *words(last=2, output='PLACE/out.ckpt')]),
        (export_weights.main, words(
            model='lenet', model_path=folder / 'model.ckpt-8', output='PLACE/out.ckpt')),
        (import_weights.main, words(model='wideresnet', layout='torch', **weights)),
        (prepare_cifar.main, [*words(output='PLACE/out', **cifar), '--no_verify']),
        (prepare_imagenet.main,
         [*words(output='PLACE/out', source=archives, shards=1), '--no_verify']),
        (prepare_cityscapes.main,
         [*words(output='PLACE/out', source=archives), '--allow_partial']),
        (draw_scenes.main, words(output='PLACE/out', count=1, height=64, width=128)),
        (doctor.main, []),
        (score.main, words(model='lenet', batch_size=8, **batches)),
        (msame.main, words(
            om=folder / 'offline' / 'lenet.om',
            bins=batches['bins'],
            output='PLACE/out')),
    ]  # fmt: skip


def slow(sources):
    """Those that build a graph."""
    folder = sources / 'run'
    data = dict(data_path=sources / 'records' / 'lenet', batch_size=8)
    known = dict(model_path=folder / 'lenet.ckpt', **data)
    export = dict(model='lenet', **known)
    pictures = sources / 'images'
    return [
        (_run, words(output_path='PLACE/out', do_train=True, steps=2, **data)),
        (_run, words(output_path='PLACE/out', **known)),
        (_run, ['--predict', pictures, *words(output_path='PLACE/out', **known)]),
        (_run, words(show_batch=4, output_path='PLACE/out', **data)),
        (freeze.main, words(output='PLACE/out.pb', **export)),
        (to_onnx.main, words(
            model='lenet',
            batch_size=8,
            frozen=folder / 'offline' / 'lenet.pb',
            output='PLACE/out.onnx')),
        (bins.main, words(output='PLACE/out', model='lenet', **data)),
        (offline.main, words(output='PLACE/out', backend='onnx', **export)),
        (offline.main, words(output='PLACE/out', backend='msame', **export)),
        (atc.main, words(
            model='lenet',
            batch_size=8,
            frozen=folder / 'offline' / 'lenet.pb',
            output='PLACE/out.om')),
    ]  # fmt: skip
