"""Results that travel to object storage, and what the next job makes of them."""

import pathlib
import signal

import pytest

from common.configuration.settings import Config
from common.data import modelarts
from common.errors import UserError


def test_results_are_copied_out_by_rank_0_alone(store):
    for rank in (1, 0):
        cfg = Config(train_url='obs://bucket/run')
        with modelarts.transfer(cfg, rank) as cfg:
            pathlib.Path(cfg.output_path).mkdir(parents=True, exist_ok=True)
            pathlib.Path(cfg.output_path, 'metrics.jsonl').write_text('rank %d' % rank)
        assert (store / 'bucket' / 'run').exists() is (rank == 0)
    assert (store / 'bucket' / 'run' / 'metrics.jsonl').read_text() == 'rank 0'


def test_results_are_copied_out_after_an_error(store):
    cfg = Config(train_url='obs://bucket/run')
    with pytest.raises(UserError, match='^diverged$'):
        with modelarts.transfer(cfg, 0) as cfg:
            pathlib.Path(cfg.output_path).mkdir(parents=True)
            pathlib.Path(cfg.output_path, 'log.txt').write_text('so far')
            raise UserError('diverged')
    assert (store / 'bucket' / 'run' / 'log.txt').read_text() == 'so far'


def test_an_error_before_there_is_a_folder_stays_that_error(store):
    with pytest.raises(UserError, match='^no data$'):
        with modelarts.transfer(Config(train_url='obs://bucket/run'), 0):
            raise UserError('no data')
    assert not (store / 'bucket').exists()


def test_results_are_copied_out_after_sigterm(store, process):
    rank = process("""
        import pathlib, time
        from common import errors
        from common.configuration import settings
        @errors.entry_point
        def command():
            with modelarts.transfer(settings.Config(train_url='obs://bucket/run'), 0) as cfg:
                pathlib.Path(cfg.output_path).mkdir(parents=True)
                pathlib.Path(cfg.output_path, 'log.txt').write_text('so far')
                print('ready', flush=True)
                time.sleep(60)
        command()
    """)
    assert rank.stdout.readline() == 'ready\n'
    rank.send_signal(signal.SIGTERM)
    _, error = rank.communicate(timeout=30)
    assert rank.returncode == 128 + signal.SIGTERM, error
    assert 'Traceback' not in error and 'results copied to obs://bucket/run' in error
    assert (store / 'bucket' / 'run' / 'log.txt').read_text() == 'so far'


def test_a_new_job_goes_on_from_what_an_earlier_one_copied_out(store):
    (store / 'bucket' / 'run').mkdir(parents=True)
    (store / 'bucket' / 'run' / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-20"')
    seen = []
    for rank in (1, 0):
        cfg = Config(train_url='obs://bucket/run')
        with modelarts.transfer(cfg, rank) as cfg:
            seen.append(pathlib.Path(cfg.output_path, 'checkpoint').exists())
    assert seen == [False, True]  # rank 0 alone reads checkpoints


def test_what_is_on_the_disk_is_newer_than_what_was_copied_out(store):
    """A job that is started again on the same server."""
    cfg = Config(train_url='obs://bucket/run')
    with modelarts.transfer(cfg, 0) as cfg:
        pathlib.Path(cfg.output_path).mkdir(parents=True)
        pathlib.Path(cfg.output_path, 'checkpoint').write_text('new')
    (store / 'bucket' / 'run' / 'checkpoint').write_text('old')
    with modelarts.transfer(Config(train_url='obs://bucket/run'), 0):
        assert pathlib.Path(cfg.output_path, 'checkpoint').read_text() == 'new'
    assert (store / 'bucket' / 'run' / 'checkpoint').read_text() == 'new'


def test_jobs_do_not_share_folders(store):
    paths = set()
    for url in ('obs://bucket/a', 'obs://bucket/b'):
        cfg = Config(train_url=url)
        with modelarts.transfer(cfg, 0) as cfg:
            paths.add(cfg.output_path)
    assert len(paths) == 2


def checkpoint(folder, step):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ('model.ckpt-%d.index' % step)).write_text(str(step))
    (folder / 'state').write_text('at step %d' % step)


def trains(url, step):
    """A job that finds what `url` has, and trains to `step`; returns the state that it found."""
    cfg = Config(train_url=url)
    with modelarts.transfer(cfg, 0) as cfg:
        output = pathlib.Path(cfg.output_path)
        found = (output / 'state').read_text() if (output / 'state').exists() else None
        if step:
            checkpoint(output, step)
    return found


def test_a_newer_state_elsewhere_replaces_the_cached_one(store):
    assert trains('obs://bucket/run', 20) is None
    checkpoint(store / 'bucket' / 'run', 60)  # by a job on another server
    assert trains('obs://bucket/run', 0) == 'at step 60'
    assert (store / 'bucket' / 'run' / 'state').read_text() == 'at step 60'


def test_results_never_go_backwards(store, capsys):
    """Another server has gone further while this one trained."""
    cfg = Config(train_url='obs://bucket/run')
    with modelarts.transfer(cfg, 0) as cfg:
        checkpoint(pathlib.Path(cfg.output_path), 20)
        checkpoint(store / 'bucket' / 'run', 60)
    assert (store / 'bucket' / 'run' / 'state').read_text() == 'at step 60'
    assert (store / 'bucket' / 'run-step-20' / 'state').read_text() == 'at step 20'
    assert 'obs://bucket/run is at step 60, this run ended at step 20' in capsys.readouterr().err


def test_what_an_earlier_job_copied_out_and_this_one_lacks_stays(store):
    checkpoint(store / 'bucket' / 'run', 20)
    (store / 'bucket' / 'run' / 'notes.txt').write_text('mine')
    assert trains('obs://bucket/run', 40) == 'at step 20'
    names = {path.name for path in (store / 'bucket' / 'run').iterdir()}
    assert names >= {'notes.txt', 'model.ckpt-20.index', 'model.ckpt-40.index'}
