"""ResNeSt from a checkpoint to offline.json, a class for each pixel: figures against NumPy's, on
narrow networks and 64x96 pixels.
"""

import json
import shutil
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from small_resnest import CONSTANTS, COUNT, HEIGHT, WIDTH, figures, made, scenes

from offline_inference import ascend, atc, bins, cli, freeze, msame, pb, run, score, to_onnx
from offline_inference.reference import Reference
from resnest_tf import model_port


@pytest.fixture(scope='module')
def paper(tmp_path_factory):
    return made('paper', tmp_path_factory.mktemp('paper'))


@pytest.fixture(scope='module')
def port(tmp_path_factory):
    # Each fourth block, with the one that strides: what the host gives does not depend on depth.
    with mock.patch.object(model_port, '_BLOCKS', model_port._BLOCKS[3::4]):
        yield made('port', tmp_path_factory.mktemp('port'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where all backends run: what one of them made is there for the next."""
    return tmp_path_factory.mktemp('offline')


@pytest.fixture(scope='module')
def whole(paper, folder, sim_for_module):
    """That folder, in which msame ran on all batches at once."""
    with sim_for_module():
        run.main(paper.words(folder, backend='msame'))
    return folder


def read(output):
    return json.loads((output / 'offline.json').read_text())['results']


@pytest.mark.parametrize(
    'backend, dtype',
    [('pb', 'float32'), ('onnx', 'uint8'), ('msame', 'float32'), ('msame', 'uint8')],
)
def test_engines_agree(backend, dtype, paper, folder, sim, capfd):
    run.main(paper.words(folder, backend=backend, input_dtype=dtype))
    out = capfd.readouterr().out
    result = read(folder)[backend + ('_uint8' if dtype == 'uint8' else '')]
    expected = figures(paper.logits, paper.labels)
    assert 0.1 < expected['miou'] < 0.9
    assert result['images'] == COUNT and result['batch_size'] == 1
    assert result['predictions'] == COUNT * HEIGHT * WIDTH
    half = backend not in ('pb', 'onnx')
    for key, value in expected.items():
        assert result['online'][key] == pytest.approx(value, rel=1e-4), key
        assert result['offline'][key] == pytest.approx(value, rel=1e-2 if half else 1e-4), key
    offline = result['offline']
    assert len(offline['iou']) == 19
    mean = np.mean([value for value in offline['iou'].values() if value is not None])
    assert offline['miou'] == pytest.approx(mean)
    line = '>>>>>  共 5 测试样本    MIoU: %.6f ' % offline['miou']
    assert out.splitlines()[-1].startswith(line)
    share = 100 * result['equal_predictions']
    assert 'same prediction as online: %.3f %% of the pixels' % share in out
    largest = np.abs(paper.logits).max()
    difference = result['max_abs_logit_difference'] / largest
    if half:
        assert result['precision_mode'] == 'allow_fp32_to_fp16' and result['least_equal'] == 0.99
        assert 0.995 < result['equal_predictions'] < 1 and 1e-5 < difference < 1e-2
    else:
        assert result['least_equal'] == 0.999
        assert result['equal_predictions'] > 0.9999 and difference < 1e-4


def test_frozen_graph_has_the_published_names(whole):
    graph_def = pb.read(whole / 'resnest.pb')
    (x,) = (node for node in graph_def.node if node.op == 'Placeholder')
    assert x.name == 'inputx'
    assert [size.size for size in x.attr['shape'].shape.dim] == [1, HEIGHT, WIDTH, 3]
    read_by_others = {name.split(':')[0] for node in graph_def.node for name in node.input}
    (last,) = (node for node in graph_def.node if node.name not in read_by_others)
    assert last.name == 'resize/ResizeBilinear'
    assert last.attr['align_corners'].b and not last.attr['half_pixel_centers'].b
    assert not any('SpaceToBatch' in node.op for node in graph_def.node)
    rates = [node.attr['dilations'].list.i[1] for node in graph_def.node if node.op == 'Conv2D']
    assert {12, 24, 36} < set(rates)


def test_disk_holds_a_chunk_at_a_time(paper, whole, tmp_path, sim, monkeypatch, capsys):
    """Without --chunk: what fits into CHUNK_BYTES. 5 batches are 2, 2 and 1, and their figures
    those of the whole.
    """
    for name in ('manifest.json', 'resnest.pb', 'resnest.om'):
        shutil.copy(str(whole / name), str(tmp_path / name))
    each = HEIGHT * WIDTH * (3 * 4 + 1 + 2 * 19 * 4) + 4
    monkeypatch.setattr(ascend, 'CHUNK_BYTES', 3 * each - 1)
    seen, tool = [], msame.TOOLS['msame']

    def watch(scratch, device_id):
        seen.append(len(list((scratch / 'batches').iterdir())))
        stats = [path.stat() for path in tmp_path.rglob('*') if path.suffix in ('.bin', '.npy')]
        sizes = {stat.st_ino: stat.st_size for stat in stats}  # the scratch folder holds hard links
        headers, results = 3 * 128, HEIGHT * WIDTH * 19 * 4  # there are no results yet
        assert sum(sizes.values()) - headers == seen[-1] * (each - results)
        return tool.execute(scratch, device_id)

    monkeypatch.setitem(msame.TOOLS, 'msame', tool._replace(execute=watch))
    run.main(paper.words(tmp_path, backend='msame'))
    assert seen == [2, 2, 1]
    assert not list(tmp_path.rglob('*.bin')) and not list(tmp_path.rglob('*.npy'))
    assert (
        '5 float32 images of 64x96x3 and their results take 0.01 GB; 2 batches at a time, 0.00 GB,'
        ' are written, run, scored and deleted' in capsys.readouterr().out
    )
    result, unchunked = read(tmp_path)['msame'], read(whole)['msame']
    for key in ('images', 'predictions', 'equal_predictions', 'max_abs_logit_difference'):
        assert result[key] == unchunked[key], key
    for side in ('online', 'offline'):
        assert result[side].pop('loss') == pytest.approx(unchunked[side]['loss'])
        unchunked[side].pop('loss')
        assert result[side] == unchunked[side]


def test_scores_of_a_run_by_hand(paper, whole, sim, capsys):
    """The same results through offline_inference.score."""
    (place,) = (whole / 'msame').iterdir()
    words = paper.words('')[:-2]
    score.main(words + ['--bins', str(place / 'bins'), '--results', str(place / 'results')])
    out = capsys.readouterr().out
    found = json.loads(out[: out.rindex('}') + 1])
    assert found['miou'] == read(whole)['msame']['offline']['miou']
    assert 'MIoU: %.6f ' % found['miou'] in out.splitlines()[-1]


def test_ports_network_is_given_bgr_by_the_host(port, tmp_path, sim, monkeypatch):
    _, cfg = cli.Parser('', '').parse_model(port.words(tmp_path)[:-2])
    task = cli.load(cfg)
    of, largest = Reference.restored(task, cfg), np.abs(port.logits).max()
    for dtype in ('float32', 'uint8'):
        graph_def = freeze.constant_graph(of, dtype)
        (tmp_path / (dtype + '.pb')).write_bytes(graph_def.SerializeToString())

    to_onnx.convert(tmp_path / 'uint8.pb', tmp_path / 'uint8.onnx', of.output_name)
    logits = to_onnx.engine(tmp_path / 'uint8.onnx', of, 'uint8')(scenes()[:1, ..., ::-1])
    np.testing.assert_allclose(logits, port.logits[:1], atol=1e-4 * largest)

    conversion = atc.plan(
        of, tmp_path / 'float32.pb', tmp_path / 'resnest.om', 'Ascend310', 'uint8'
    )
    atc.convert(conversion)
    monkeypatch.setattr(of, 'logits_shape', lambda: [1, HEIGHT, WIDTH, 19])  # which takes seconds
    batches = bins.write(
        tmp_path / 'bins', bins.describe(of, 'uint8'), Reference(task, cfg).batches(), COUNT
    )
    files = msame.run('msame', tmp_path / 'resnest.om', batches, tmp_path / 'results').files
    logits = np.concatenate([score.read_logits(path, [1, HEIGHT, WIDTH, 19]) for path in files])
    np.testing.assert_allclose(logits, port.logits, atol=2e-2 * largest)  # float16
    assert np.mean(logits.argmax(-1) == port.logits.argmax(-1)) > 0.99

    lines = [line.strip() for line in (tmp_path / 'resnest.aipp.cfg').read_text().splitlines()]
    mean, deviation = CONSTANTS
    assert 'rbuv_swap_switch: false' in lines
    assert 'src_image_size_w: %d' % WIDTH in lines and 'src_image_size_h: %d' % HEIGHT in lines
    for channel in range(3):  # blue first
        assert 'min_chn_%d: %g' % (channel, mean[2 - channel]) in lines
        (reciprocal,) = (
            float(line.split()[1]) for line in lines if line.startswith('var_reci_chn_%d' % channel)
        )
        assert reciprocal == pytest.approx(1 / deviation[2 - channel], rel=1e-9)


def test_test_split_has_nothing_to_score(paper, tmp_path, folder, capsys):
    """All labels are 255: engines are compared, figures and the published line are left out."""
    records = tmp_path / 'data' / 'test.tfrecord'
    records.parent.mkdir()
    with tf.io.TFRecordWriter(str(records)) as writer:
        for record in tf.io.tf_record_iterator(str(paper.records)):
            example = tf.train.Example.FromString(record)
            example.features.feature['label'].bytes_list.value[0] = b'\xff' * (HEIGHT * WIDTH)
            writer.write(example.SerializeToString())
    run.main(paper.words(folder, backend='pb', data_path=tmp_path / 'data', image_num=2))
    out = capsys.readouterr().out
    result = read(folder)['pb']
    assert result['images'] == 2 and result['equal_predictions'] > 0.9999
    assert result['online'] == result['offline'] == {}
    assert '>>>>>' not in out and '2 images' in out
