"""common.data.sampling: batches and draws are functions of (seed, step), on any number of ranks."""

import numpy as np
import pytest
import tensorflow as tf

from common.data import record_writer, records, sampling
from common.errors import UserError


def encode(n):
    return {'label': n}


def write(path, count, shards=1):
    """Record n has label n."""
    schema = {'label': {'kind': 'int64', 'dtype': 'int64', 'shape': []}}
    record_writer.write(
        path, range(count), encode, name='x', split='x', schema=schema, shards=shards, workers=1
    )
    return records.Folder.open(path)


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        yield


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """100 records in 7 files."""
    return write(tmp_path_factory.mktemp('records') / 'train', 100, shards=7)


def test_splitmix64_is_the_published_generator():
    """The first outputs for seed 1234567 (Rosetta Code, "Pseudo-random numbers/Splitmix64")."""
    states = np.uint64(1234567) + np.arange(5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert sampling.splitmix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_draws_are_uniform_and_depend_on_everything():
    draws = sampling.uniform(3, 1, np.arange(4000), 5)
    assert (
        draws.shape == (4000, 5)
        and draws.dtype == np.float32
        and draws.min() >= 0
        and draws.max() < 1
    )
    counts = np.stack([np.histogram(column, 16, (0, 1))[0] for column in draws.T])
    assert ((counts - 250) ** 2 / 250).sum(
        axis=1
    ).max() < 45  # chi-squared, 15 degrees: P(> 45) = 8e-5
    assert np.abs(np.corrcoef(draws.T) - np.eye(5)).max() < 0.08  # 5 sigma of 1/sqrt(4000)
    assert np.abs(np.corrcoef(draws[1:, 0], draws[:-1, 0])[0, 1]) < 0.08
    for other in (
        sampling.uniform(4, 1, np.arange(4000), 5),
        sampling.uniform(3, 2, np.arange(4000), 5),
    ):
        assert np.abs(np.corrcoef(draws.ravel(), other.ravel())[0, 1]) < 0.04
    assert np.array_equal(sampling.uniform(3, 1, [17, 5], 2), draws[[17, 5], :2])


def test_training_batches_follow_the_permutation(folder, elements):
    """100 records in batches of 12: 8 a epoch, 4 left over; the order is NumPy's permutation for
    (seed, epoch).
    """
    found = elements(sampling.batches(folder, 12, training=True, seed=5, steps=18, draws=3))
    assert len(found) == 18
    for step, batch in enumerate(found):
        epoch, index = divmod(step, 8)
        expected = np.random.RandomState([5, epoch]).permutation(100)[12 * index :][:12]
        assert batch['id'].tolist() == expected.tolist()
        assert batch['mask'].tolist() == [1.0] * 12
        assert np.array_equal(batch['draws'], sampling.uniform(5, epoch, expected, 3))
    epoch = np.concatenate([batch['id'] for batch in found[:8]])
    assert len(set(epoch)) == 96
    other = elements(sampling.batches(folder, 12, training=True, seed=6, steps=1))
    assert other[0]['id'].tolist() != found[0]['id'].tolist()


def test_static_shapes_and_types(folder):
    for training in (True, False):
        dataset = sampling.batches(folder, 12, training=training, draws=3)
        assert {
            key: shape.as_list() for key, shape in tf.data.get_output_shapes(dataset).items()
        } == {'id': [12], 'draws': [12, 3], 'mask': [12]}
        assert tf.data.get_output_types(dataset) == {
            'id': tf.int64,
            'draws': tf.float32,
            'mask': tf.float32,
        }


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('size', [2, 3])
def test_ranks_share_the_global_batch(folder, training, size, elements):
    """One device with batch 12 and `size` devices with 12 / size see the same records, draws and
    masks at every step.
    """
    steps = 11 if training else None
    whole = elements(sampling.batches(folder, 12, training=training, seed=1, steps=steps, draws=2))
    parts = [
        elements(
            sampling.batches(
                folder,
                12 // size,
                training=training,
                seed=1,
                rank=rank,
                size=size,
                steps=steps,
                draws=2,
            )
        )
        for rank in range(size)
    ]
    assert len(whole) == (11 if training else 9) and {len(part) for part in parts} == {len(whole)}
    for batch, pieces in zip(whole, zip(*parts)):
        for key in batch:
            assert np.array_equal(batch[key], np.concatenate([piece[key] for piece in pieces])), key


@pytest.mark.parametrize('start', [0, 1, 7, 8, 9, 16, 23])
def test_resume_at_any_step(folder, start, elements):
    whole = elements(sampling.batches(folder, 12, training=True, steps=25, draws=2))
    resumed = elements(
        sampling.batches(folder, 12, training=True, start_step=start, steps=25 - start, draws=2)
    )
    assert len(resumed) == 25 - start
    for expected, found in zip(whole[start:], resumed):
        for key in expected:
            assert np.array_equal(expected[key], found[key])


@pytest.mark.parametrize(
    'count, batch_size, size',
    [(1, 4, 1), (1, 2, 3), (7, 7, 1), (7, 3, 2), (13, 4, 3), (12, 4, 3), (23, 5, 2)],
)
def test_evaluation_sees_every_record_once(tmp_path, count, batch_size, size, elements):
    folder = write(tmp_path / 'test', count)
    ranks = [
        elements(sampling.batches(folder, batch_size, training=False, rank=rank, size=size))
        for rank in range(size)
    ]
    assert {len(batches) for batches in ranks} == {int(np.ceil(count / (batch_size * size)))}
    seen = []
    for step in zip(*ranks):
        for batch in step:
            assert len(batch['id']) == batch_size and set(batch['mask']) <= {0.0, 1.0}
            assert (batch['id'][batch['mask'] == 0] == 0).all()
            seen += batch['id'][batch['mask'] == 1].tolist()
    assert seen == list(range(count))


def test_too_few_records(folder):
    assert records.steps_per_epoch(100, 12) == 8 and sampling.steps_per_epoch(12, 12) == 1
    with pytest.raises(UserError, match='100 training records.*128.*--batch_size'):
        sampling.batches(folder, 64, training=True, size=2)
