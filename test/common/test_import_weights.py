"""From a PyTorch file to a checkpoint. torch itself is stood in for: it is not among the
requirements.
"""

import pathlib
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from common.checkpoints.importers.torch import read
from common.errors import UserError
from common.import_weights import main
from wideresnet_tf import model
from wideresnet_tf.config import WideResNetConfig

DATA = pathlib.Path(__file__).resolve().parent.parent / 'data'


def authors():
    """(state dict, images, logits) of the authors' WRN-16-1."""
    with np.load(str(DATA / 'wrn_authors.npz')) as archive:
        arrays = {name: archive[name] for name in archive.files if not name.startswith('train')}
    return arrays, arrays.pop('images').transpose(0, 2, 3, 1), arrays.pop('logits')


class Tensor:
    """As much of a torch.Tensor as reading takes. Like one that trains, it refuses numpy() before
    detach().
    """

    def __init__(self, array, detached=False):
        self._array, self._detached = np.asarray(array), detached

    def detach(self):
        return Tensor(self._array, True)

    def is_floating_point(self):
        return self._array.dtype.kind == 'f'

    def float(self):
        return Tensor(self._array.astype(np.float32), self._detached)

    def numpy(self):
        assert self._detached
        return self._array


@pytest.fixture
def torch_holds(monkeypatch, tmp_path):
    """Makes `import torch` give a torch whose load() returns `content`; returns the path of a file
    to read.
    """

    def install(content, suffix='.pth'):
        def load(path, map_location, weights_only=False):
            if isinstance(content, Exception):
                raise content
            assert map_location == 'cpu' and weights_only and pathlib.Path(path).is_file()
            return content

        monkeypatch.setitem(
            sys.modules, 'torch', types.SimpleNamespace(load=load, __version__='1.13.1')
        )
        path = tmp_path / ('weights' + suffix)
        path.write_bytes(b'pickle')
        return path

    return install


def command(weights, output, model='wideresnet', layout='torch'):
    main(['--model', model, '--layout', layout, '--weights', str(weights), '--output', str(output)])


def fails(capsys, *args, **kwargs):
    with pytest.raises(SystemExit) as stop:
        command(*args, **kwargs)
    assert stop.value.code == 2
    return capsys.readouterr().err


# The command


def test_imported_checkpoint_gives_the_authors_logits(tmp_path, capsys):
    state, x, expected = authors()
    np.savez(str(tmp_path / 'weights.npz'), **state)
    command(tmp_path / 'weights.npz', tmp_path / 'out' / 'wideresnet.ckpt')

    total = capsys.readouterr().out.splitlines()[-1].split()
    assert total == [
        'total',
        '69',
        '{:,}'.format(sum(v.size for name, v in state.items() if 'running' not in name)),
    ]
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        'wideresnet.ckpt.data-00000-of-00001',
        'wideresnet.ckpt.index',
    ]
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float32, x.shape)
        logits = model.build(images, WideResNetConfig(depth=16, widen_factor=1, num_classes=10))
        names = [
            name for name, _ in tf.train.list_variables(str(tmp_path / 'out' / 'wideresnet.ckpt'))
        ]
        assert sorted(names) == sorted(v.op.name for v in tf.global_variables())
        tf.train.Saver().restore(session, str(tmp_path / 'out' / 'wideresnet.ckpt'))
        np.testing.assert_allclose(session.run(logits, {images: x}), expected, rtol=1e-4, atol=1e-4)


def test_failed_import_leaves_what_was_there(tmp_path, capsys):
    state, _, _ = authors()
    np.savez(str(tmp_path / 'whole.npz'), **state)
    del state['bn.weight']
    np.savez(str(tmp_path / 'part.npz'), **state)
    output = tmp_path / 'out' / 'w.ckpt'
    command(tmp_path / 'whole.npz', output)
    before = {p.name: p.read_bytes() for p in output.parent.iterdir()}

    error = fails(capsys, tmp_path / 'part.npz', output)
    assert 'part.npz: ' in error and 'missing bn.weight' in error
    assert {p.name: p.read_bytes() for p in output.parent.iterdir()} == before


def test_mistakes_in_flags_are_one_line(tmp_path, capsys):
    (tmp_path / 'w.npz').write_bytes(b'')
    assert "did you mean 'wideresnet'?" in fails(
        capsys, tmp_path / 'w.npz', tmp_path / 'w.ckpt', model='wideresnett'
    )
    assert 'wideresnet can import torch' in fails(
        capsys, tmp_path / 'w.npz', tmp_path / 'w.ckpt', layout='keras'
    )
    assert 'is a folder; name a checkpoint in it' in fails(capsys, tmp_path / 'w.npz', tmp_path)
    assert fails(capsys, tmp_path / 'absent.npz', tmp_path / 'w.ckpt').endswith(
        'absent.npz: no such file\n'
    )


# Reading files


@pytest.mark.parametrize('suffix', ['.pth', '.pt', '.pt7', '.pth.tar'])
def test_authors_file_is_unwrapped(suffix, torch_holds):
    path = torch_holds(
        {'params': {'conv0': Tensor([1.0, 2.0])}, 'epoch': 200, 'optimizer': {'state': {}}}, suffix
    )
    assert {name: value.tolist() for name, value in read(path).items()} == {'conv0': [1.0, 2.0]}


def test_statistics_of_the_authors_first_release_are_joined(torch_holds):
    path = torch_holds(
        {
            'params': {'bn.weight': Tensor([1.0])},
            'stats': {'bn.running_mean': Tensor([2.0])},
            'epoch': 1,
        }
    )
    assert {name: value.tolist() for name, value in read(path).items()} == {
        'bn.weight': [1.0],
        'bn.running_mean': [2.0],
    }


@pytest.mark.parametrize('wrapper', ['state_dict', 'model', None])
def test_data_parallel_prefix_and_half_precision_go(wrapper, torch_holds):
    state = {'module.fc.weight': Tensor(np.float16([0.5])), 'module.steps': Tensor(np.int64(7))}
    arrays = read(torch_holds({wrapper: state} if wrapper else state))
    assert sorted(arrays) == ['fc.weight', 'steps']
    assert arrays['fc.weight'].dtype == np.float32 and arrays['steps'] == 7


def test_npz_is_read_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', None)
    np.savez(str(tmp_path / 'w.npz'), **{'module.conv0': np.arange(3)})
    assert read(tmp_path / 'w.npz')['conv0'].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    'content',
    [
        {
            'params': {'conv0': Tensor([1.0, 2.0])},
            'stats': {'bn.running_mean': Tensor([3.0])},
            'epoch': 200,
        },
        {'state_dict': {'conv0': Tensor([1.0, 2.0]), 'bn.running_mean': Tensor([3.0])}},
        {'conv0': Tensor([1.0, 2.0]), 'bn.running_mean': Tensor([3.0])},
    ],
)
def test_conversion_that_is_told_without_torch_works(content, tmp_path, monkeypatch, torch_holds):
    path = tmp_path / "it's.pth.tar"
    path.write_bytes(b'pickle')
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(UserError, match='needs torch, which is not installed here') as told:
        read(path)
    torch_holds(content)
    lines = str(told.value).splitlines()[1:]
    assert len(lines) == 5
    exec('\n'.join(line.strip() for line in lines[1:]), {})
    assert {name: value.tolist() for name, value in read(tmp_path / "it's.npz").items()} == {
        'conv0': [1.0, 2.0],
        'bn.running_mean': [3.0],
    }


@pytest.mark.parametrize(
    'content, message',
    [
        (
            RuntimeError('Invalid magic number\nmore'),
            'torch 1.13.1 cannot read it as weights: Invalid magic number$',
        ),
        ([Tensor([1.0])], 'holds a list, not a state dict'),
        ({'conv0': Tensor([1.0]), 'epoch': 3}, "entry 'epoch' is a int, not a tensor"),
    ],
)
def test_files_that_hold_no_weights_are_refused(content, message, torch_holds):
    with pytest.raises(UserError, match=message):
        read(torch_holds(content))


def test_other_files_are_refused(tmp_path):
    (tmp_path / 'w.h5').write_bytes(b'')
    with pytest.raises(UserError, match=r'w\.h5: PyTorch weights are read from \.pth'):
        read(tmp_path / 'w.h5')
    for content in (b'', b'not a zip', b'PK\x03\x04 cut off'):
        (tmp_path / 'broken.npz').write_bytes(content)
        with pytest.raises(UserError, match=r'broken\.npz is not an \.npz'):
            read(tmp_path / 'broken.npz')
    np.savez(str(tmp_path / 'objects.npz'), conv0=np.array([{}]))
    with pytest.raises(UserError, match=r'objects\.npz is not an \.npz archive of plain arrays'):
        read(tmp_path / 'objects.npz')
    for save in (np.savez, np.savez_compressed):
        save(str(tmp_path / 'bits.npz'), conv0=np.random.RandomState(0).normal(size=1000))
        content = bytearray((tmp_path / 'bits.npz').read_bytes())
        content[4000] ^= 0xFF
        (tmp_path / 'bits.npz').write_bytes(content)
        with pytest.raises(UserError, match=r'bits\.npz is not an \.npz'):
            read(tmp_path / 'bits.npz')
    np.save(str(tmp_path / 'single.npy'), np.ones(3))
    (tmp_path / 'single.npy').rename(tmp_path / 'single.npz')
    with pytest.raises(UserError, match=r'single\.npz is not an \.npz'):
        read(tmp_path / 'single.npz')
