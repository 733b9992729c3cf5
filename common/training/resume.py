"""Where a run starts: finds the step to resume from, and checks that it may be resumed."""

import hashlib
import pathlib
import shutil
import sys
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import tensorflow as tf

from common.checkpoints import checkpoint
from common.configuration import config
from common.data import records
from common.errors import UserError
from common.files import read_rows, remove
from common.task import Task
from common.training import metrics_logger


class ResumePoint(NamedTuple):
    """step: where training goes on; evaluated: the last step that has an evaluation; done: nothing
    is left to do; notes: what to tell the user.
    """

    step: int = 0
    checkpoint: Optional[str] = None
    evaluated: int = 0
    done: bool = False
    notes: Sequence[str] = ()


def find_start(task: Task, cfg: Any, total: int, data: Dict[str, str]) -> ResumePoint:
    """Finds where the run in a folder resumes; writes nothing. UserError if it must not resume.

    data: the fingerprint of each split, to compare with that of the session before.
    """
    output = cfg.output_path
    if cfg.restart:
        return ResumePoint()
    notes, prefix, step = [], None, 0
    for saved, candidate in reversed(checkpoint.training_checkpoints(output)):
        if checkpoint.is_readable(candidate):
            prefix, step = candidate, saved
            break
        notes.append('warning: %s is damaged and is skipped' % candidate)
    rows, _ = read_rows(pathlib.Path(output, 'metrics.jsonl'))
    final = pathlib.Path(output, task.final_checkpoint)
    if prefix is None:
        _refuse_leftovers(output, final, rows)
        return ResumePoint()
    notes.append('resuming at step %d of %s' % (step, output))
    notes += _changes(cfg, output, rows, data)
    finished_steps = metrics_logger.current_steps(rows, 'end', step)
    done = step >= total and max(finished_steps, default=-1) >= total and _step_of(final) >= total
    evaluated = max(metrics_logger.current_steps(rows, 'eval', step), default=0)
    return ResumePoint(step, prefix, evaluated, done, notes)


def _refuse_leftovers(output: str, final: pathlib.Path, rows: List[Dict[str, Any]]) -> None:
    """Raises UserError if the folder holds a run without a readable checkpoint."""
    leftovers = sorted(path.name for path in pathlib.Path(output).glob('model.ckpt-*'))
    leftovers += [final.name] if checkpoint.is_complete(final) else []
    leftovers += ['metrics.jsonl'] if any(row.get('step', 0) > 0 for row in rows) else []
    if leftovers:
        raise UserError(
            '%s holds an earlier run (%s), but no complete checkpoint to resume from; restore its'
            ' files, give another --output_path, or --restart True, which moves the run aside'
            % (output, ', '.join(leftovers[:3]))
        )


def _changes(cfg: Any, output: str, rows: List[Dict], data: Dict[str, str]) -> List[str]:
    saved = pathlib.Path(output, 'config.yaml')
    before = config.read_yaml(saved) if saved.exists() else {}
    notes = [
        'warning: %s was %s when the run was started, now %s' % (key, old, new)
        for key, (old, new) in config.changes(cfg, before).items()
        if key not in config.LOCAL
    ]
    recorded = [
        row['data'] for row in rows if row['kind'] == 'run' and isinstance(row.get('data'), dict)
    ]
    for split, digest in data.items():
        if recorded and recorded[-1].get(split, digest) != digest:
            notes.append(
                'warning: the %s records are not those of the session before; shuffling and'
                ' augmentation go on with other images' % split
            )
    return notes


def _step_of(path: pathlib.Path) -> int:
    """Returns the step of a checkpoint, -1 if there is none that can be read."""
    try:
        return checkpoint.Checkpoint(path).step or 0 if checkpoint.is_complete(path) else -1
    except UserError:
        return -1


def fingerprint(folder: records.Folder) -> str:
    """Returns a digest of a split: sizes and checksums of its files, and how many records count."""
    digest = hashlib.sha256(str(folder.count).encode())
    for file in folder.files:
        digest.update(('%s %d\n' % (file.name, file.stat().st_size)).encode())
    for shard in folder.metadata.get('shards', []):
        digest.update(str(shard.get('sha256')).encode())
    return digest.hexdigest()[:16]


def prepare_folder(cfg: Any, start: ResumePoint) -> None:
    """Makes the run's folder ready: --restart moves an earlier run aside, leftovers are removed.

    TensorFlow takes the checkpoint that the file `checkpoint` names, so that is written anew.
    """
    output = pathlib.Path(cfg.output_path)
    if cfg.restart:
        _move_aside(output)
    for name in ('model.ckpt-*_temp_*', 'model.ckpt-*.tempstate*', 'checkpoint.tmp*'):
        for path in output.glob(name):
            remove(path)
    # Damaged checkpoints of later steps: nothing must take them for the newest.
    for path in output.glob('model.ckpt-*'):
        if checkpoint.step_in_name(path.name) > start.step and path.suffix != '.damaged':
            path.rename(path.with_name(path.name + '.damaged'))
    if start.checkpoint:
        # Names without the folder, so that a run can be moved.
        names = ['model.ckpt-%d' % step for step, _ in checkpoint.training_checkpoints(output)]
        tf.train.update_checkpoint_state(str(output.resolve()), names[-1], names)


def _move_aside(output: pathlib.Path) -> None:
    """Moves what a run has left in its folder to OUTPUT/earlier-N."""
    content = [
        path for path in output.iterdir() if not path.name.startswith(('earlier-', 'run.lock'))
    ]
    if not content:
        return
    number = 1
    while (output / ('earlier-%d' % number)).exists():
        number += 1
    target = output / ('earlier-%d' % number)
    target.mkdir()
    for path in content:
        shutil.move(str(path), str(target / path.name))
    sys.stderr.write('the earlier run was moved to %s\n' % target)
