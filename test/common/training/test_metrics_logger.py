"""The written record of a run."""

import json
import time

import cv2
import numpy as np
import tensorflow as tf

from common.files import read_rows
from common.training.metrics_logger import MetricsLogger, current_steps


def test_records_are_lines_of_json_and_scalars_of_tensorboard(rows, tmp_path):
    logger = MetricsLogger(str(tmp_path / 'run'), True)
    before = time.time()
    logger.record('run', model='toy')
    logger.record('train', step=3, loss=0.5, note='text')
    run, train = rows(tmp_path / 'run')
    assert (run['kind'], run['model']) == ('run', 'toy') and before - 1 < run[
        'time'
    ] <= time.time() + 1
    assert (train['kind'], train['step'], train['loss'], train['note']) == ('train', 3, 0.5, 'text')
    events = [
        event
        for path in (tmp_path / 'run').glob('events*')
        for event in tf.compat.v1.train.summary_iterator(str(path))
    ]
    assert [
        (event.step, value.tag, value.simple_value)
        for event in events
        for value in event.summary.value
    ] == [(3, 'train/loss', 0.5)]


def test_a_picture_is_an_image_of_tensorboard(tmp_path):
    picture = np.random.RandomState(0).randint(256, size=(5, 7, 3)).astype(np.uint8)
    MetricsLogger(str(tmp_path), True).picture('batch', picture, 4)
    (path,) = tmp_path.glob('events*')
    event = list(tf.compat.v1.train.summary_iterator(str(path)))[-1]
    (value,) = event.summary.value
    assert (event.step, value.tag, value.image.height, value.image.width) == (4, 'batch', 5, 7)
    stored = cv2.imdecode(np.frombuffer(value.image.encoded_image_string, np.uint8), 1)
    np.testing.assert_array_equal(stored[..., ::-1], picture)


def test_a_writer_of_the_estimator_in_the_same_second_harms_nothing(tmp_path):
    logger, other = MetricsLogger(str(tmp_path), True), tf.summary.FileWriter(str(tmp_path))
    for step in range(3):
        logger.record('train', step=step, loss=0.5)
        other.add_session_log(tf.SessionLog(status=tf.SessionLog.START), step)
        other.flush()
    events = [
        list(tf.compat.v1.train.summary_iterator(str(path))) for path in tmp_path.glob('events*')
    ]
    assert [len(file) for file in events] == [4, 4]  # the version of the format, and three


def test_what_is_said_is_printed_and_logged(tmp_path, capsys):
    for text in ('first', 'second'):
        MetricsLogger(str(tmp_path), True).log(text)
    assert (tmp_path / 'log.txt').read_text() == 'first\nsecond\n'
    assert capsys.readouterr().out == 'first\nsecond\n'


def test_other_ranks_are_silent(tmp_path, capsys):
    logger = MetricsLogger(str(tmp_path / 'run'), False)
    logger.log('text')
    logger.record('train', step=1, loss=1.0)
    assert not (tmp_path / 'run').exists() and capsys.readouterr().out == ''


def test_rows_after_the_checkpoint_are_superseded_and_a_torn_line_is_dropped(rows, tmp_path):
    logger = MetricsLogger(str(tmp_path), True)
    logger.record('run', resumed_from=0)
    for step in (1, 2, 3, 4):
        logger.record('train', step=step, loss=1.0)
        if step % 2 == 0:
            logger.record('eval', step=step, loss=1.0)
    with open(str(tmp_path / 'metrics.jsonl'), 'a') as file:
        file.write('{"kind": "train", "st')
    MetricsLogger(str(tmp_path), True, resumed_from=2).record('train', step=3, loss=2.0)
    assert [(row['kind'], row.get('step'), 'superseded' in row) for row in rows(tmp_path)] == [
        ('run', None, False),
        ('train', 1, False),
        ('train', 2, False),
        ('eval', 2, False),
        ('train', 3, True),
        ('train', 4, True),
        ('eval', 4, True),
        ('train', 3, False),
    ]
    assert current_steps(read_rows(tmp_path / 'metrics.jsonl')[0], 'train', 3) == [1, 2, 3]
    assert not list(tmp_path.glob('.*'))


def test_rows_whose_step_is_no_whole_number_are_lines_that_cannot_be_read(tmp_path):
    good = {'kind': 'train', 'step': 1}
    rows = [dict(good, step=step) for step in ('x', None, 1.5, True, [2])] + [good]
    path = tmp_path / 'metrics.jsonl'
    path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    assert read_rows(path) == ([good], 5)
