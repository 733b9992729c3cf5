"""Evaluation as the command does it: every image once, of any checkpoint."""

import json
import re

import pytest

from common.checkpoints import checkpoint


@pytest.fixture(scope='module')
def evaluate(run, recipe, run_settings, data, finished, tmp_path_factory):
    """evaluate(flag, ...): eval.json of the finished run's final checkpoint."""
    path = recipe(**run_settings)

    def call(*words, model_path=finished / 'wideresnet.ckpt'):
        folder = tmp_path_factory.mktemp('evaluation')
        run(
            '--config',
            path,
            '--data_path',
            data,
            '--model_path',
            model_path,
            '--output_path',
            folder,
            *words,
        )
        return json.loads((folder / 'eval.json').read_text())

    return call


@pytest.mark.parametrize('batch_size', [1, 8, 32])
def test_every_image_counts_once_whatever_the_batch_size(batch_size, evaluate, finished):
    result, expected = (
        evaluate('--batch_size', batch_size),
        json.loads((finished / 'eval.json').read_text()),
    )
    assert result['images'] == 21
    assert {key: result[key] for key in ('top1', 'top5')} == {
        key: expected[key] for key in ('top1', 'top5')
    }
    assert result['loss'] == pytest.approx(expected['loss'], rel=1e-5)


def test_image_num_takes_the_first_records(
    evaluate, finished, reference_evaluation, images_and_labels
):
    images, labels = images_and_labels(21, seed=2)
    loss, top1, _ = reference_evaluation(finished / 'wideresnet.ckpt', images[:10], labels[:10])
    result = evaluate('--image_num', '10')
    assert (result['images'], result['top1'], result['loss']) == (
        10,
        pytest.approx(top1),
        pytest.approx(loss, rel=1e-4),
    )


def test_more_images_than_there_are(fails, recipe, data, finished):
    line = fails(
        '--config',
        recipe(),
        '--data_path',
        data,
        '--model_path',
        finished / 'wideresnet.ckpt',
        '--image_num',
        '22',
    )
    assert '--image_num 22' in line and 'holds 21 records' in line


def test_a_checkpoint_without_step_is_evaluated(evaluate, finished, weights, tmp_path):
    tensors = {
        name: value
        for name, value in weights(finished / 'wideresnet.ckpt').items()
        if name != 'global_step'
    }
    checkpoint.write(str(tmp_path / 'foreign.ckpt'), tensors)
    before = sorted(path.name for path in tmp_path.iterdir())
    result = evaluate(model_path=tmp_path / 'foreign.ckpt')
    assert (
        result['step'] is None
        and result['top1'] == json.loads((finished / 'eval.json').read_text())['top1']
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_training_checkpoints_and_folders_are_evaluated(evaluate, finished):
    """The newest, with the averages that the final one was made of."""
    result, expected = (
        evaluate(model_path=finished),
        json.loads((finished / 'eval.json').read_text()),
    )
    assert result['checkpoint'].endswith('model.ckpt-32') and result['step'] == 32
    assert (result['loss'], result['top1']) == (
        pytest.approx(expected['loss'], rel=1e-5),
        expected['top1'],
    )


def test_evaluation_without_output_path_writes_beside_the_checkpoint(
    run, recipe, data, copy, capsys
):
    (copy / 'eval.json').unlink()
    changed = recipe(deterministic=1, restart=True)
    run('--config', changed, '--data_path', data, '--model_path', copy / 'wideresnet.ckpt')
    result = json.loads((copy / 'eval.json').read_text())
    said = capsys.readouterr()
    line = 'wideresnet eval  loss=%.5f   acc=%.4f\n' % (result['loss'], result['top1'])
    assert line in said.out
    for note in ('restart has no effect with do_train False', 'deterministic: no effect with dev'):
        assert 'warning: ' + note in said.err


def test_evaluation_needs_a_checkpoint(fails, recipe, data):
    assert '--model_path: evaluation needs a checkpoint' in fails(
        '--config', recipe(), '--data_path', data
    )


def test_a_damaged_checkpoint_is_named(fails, recipe, data, copy):
    path = copy / 'wideresnet.ckpt.data-00000-of-00001'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    line = fails(
        '--config',
        recipe(),
        '--data_path',
        data,
        '--model_path',
        copy / 'wideresnet.ckpt',
        '--output_path',
        copy,
    )
    assert re.search('wideresnet.ckpt.* damaged', line)
