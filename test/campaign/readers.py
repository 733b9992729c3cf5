"""Groups of damaged inputs, read inside this process.

A group is a function setup(sources) -> case(random, place): it damages a copy in the folder `place`
and reads it. What is guarded by a checksum must come out as it went in, or be refused.
"""

import shutil
import types

import numpy as np
import sources as made
from damage import changed_bytes, damage_file, fresh
from judge import Silent, call, require_kept, snapshot

from common.errors import UserError

GROUPS = {}


def group(function):
    GROUPS[function.__name__] = function
    return function


def require(condition, *what):
    if not condition:
        raise Silent(' '.join(map(str, what)))


def task_of(name):
    from common import models

    return models.find(name)


@group
def recipes(sources):
    """Recipes with other values, keys or bytes; what is accepted can be planned and saved."""
    from common.configuration import config
    from common.configuration.fields import without_effect
    from common.training import plan, schedule

    found = sorted(made.ROOT.glob('*_tf/configs/*.yaml'))

    def case(random, place):
        recipe = place / 'recipe.yaml'
        shutil.copyfile(str(random.choice(found)), str(recipe))
        kind = config.read_yaml(recipe)['model']
        damage_file(recipe, random)
        cfg = config.parse(task_of(kind).config, ['--config', str(recipe)])
        without_effect(cfg, 'cpu')
        cfg.training_notes(1)
        planned = plan.make(cfg, 100000, 1, True)
        schedule.learning_rate(cfg, 0, planned.total, planned.steps_per_epoch)
        config.save(cfg, place / 'config.yaml', kind)
        again = config.parse(task_of(kind).config, ['--config', str(place / 'config.yaml')])
        require(again == cfg, 'another configuration is read than was saved', again, cfg)

    return case


def _read_split(path, skip):
    from common.data import records

    folder = records.Folder.open(path, skip)
    return [
        (one['label'], one['image'])
        for one in folder.examples(range(folder.count), {'label': int, 'image': bytes})
    ]


@group
def datasets(sources):
    """Folders of records of which one file is damaged: records are as they were, or left out."""
    source = sources / 'records' / 'lenet' / 'train'
    whole = _read_split(source, 0)

    def case(random, place):
        path, skip = fresh(source, place / 'train'), random.choice([0, 0, 3])
        target = path / random.choice(sorted(file.name for file in path.iterdir()))
        done = damage_file(target, random)
        found = _read_split(path, skip)
        if done.startswith('dataset.json') and not (path / 'dataset.json').is_file():
            skip = len(whole)  # no description: the files that are there are the data set
        rest = iter(whole)
        require(all(one in rest for one in found), done, 'other records than were written')
        require(len(found) >= len(whole) - skip, done, len(found), 'records')

    return case


@group
def payloads(sources):
    """Records of right checksum that hold something else, read by the model's own pipeline."""
    import tensorflow as tf

    from common import models
    from common.data import pipeline, records, tfrecord

    more = {
        'lenet': [],
        'cifar10': ['--num_classes', '10'],
        'cifar100': ['--num_classes', '100'],
        'imagenet': ['--num_classes', '3'],
        'cityscapes': ['--image_height', '32', '--image_width', '64']
        + ['--crop_height', '32', '--crop_width', '32', '--allow_other_batch', 'True'],
    }
    model = dict(cifar10='wideresnet', cifar100='wideresnet', lenet='lenet')
    model.update(imagenet='xception', cityscapes='resnest')

    def case(random, place):
        name = random.choice(sorted(more))
        split = records.Folder.open(sources / 'records' / name / 'train')
        content = split.read(range(split.count))
        index = random.randrange(len(content))
        content[index] = changed_bytes(content[index], random)
        (place / 'train').mkdir()
        frames = b''.join(map(tfrecord.frame, content))
        (place / 'train' / 'train.tfrecord').write_bytes(frames)
        task, cfg = models.configure(
            model[name], ['--data_path', str(place), '--batch_size', '3', *more[name]]
        )
        training = random.random() < 0.5
        with tf.Graph().as_default(), tf.Session() as session:
            folder = pipeline.open_split(task, cfg, 'train')
            dataset = pipeline.dataset(task, folder, cfg, 3, training).take(-(-folder.count // 3))
            batch = tf.data.make_one_shot_iterator(dataset).get_next()
            try:
                while True:
                    found = session.run(batch)
                    labels = found['label'][found['mask'] > 0]
                    ignore = cfg.labels.ignore if hasattr(cfg, 'labels') else -1
                    legal = (labels >= 0) & (labels < cfg.num_classes) | (labels == ignore)
                    if not legal.all():
                        raise UserError('found by evaluation and training')
            except tf.errors.OutOfRangeError:
                pass
            except tf.errors.OpError as error:
                raise records.user_error(error) or error

    return case


def _weights(prefix):
    from common.checkpoints.checkpoint import Checkpoint

    reader = Checkpoint(prefix)
    return {name: reader.read(name) for name in reader.shapes}


@group
def checkpoints(sources):
    """A run's checkpoints of which a file is damaged: resumed, read, averaged and exported."""
    from common import checkpoint as command
    from common.checkpoints import checkpoint, restore
    from common.training import resume

    task = task_of('lenet')
    from common.configuration import config

    cfg = config.parse(task.config, [])
    steps = dict(checkpoint.training_checkpoints(sources / 'run'))
    whole = {step: _weights(path) for step, path in steps.items()}

    def same(found, expected):
        return set(found) == set(expected) and all(
            np.array_equal(found[name], expected[name]) for name in found
        )

    def case(random, place):
        import dataclasses

        run = fresh(sources / 'run', place / 'run')
        names = [path.name for path in run.glob('model.ckpt-*') if path.suffix != '.meta']
        done = damage_file(run / random.choice(sorted(names) + ['checkpoint']), random)
        what = random.randrange(4)
        if what == 0:
            start = resume.find_start(task, dataclasses.replace(cfg, output_path=str(run)), 20, {})
            require(start.step in whole, done, 'starts at step', start.step)
            require(same(_weights(start.checkpoint), whole[start.step]), done, 'other weights')
        elif what == 1:
            prefix = checkpoint.latest(run)
            require(same(_weights(prefix), whole[int(prefix.split('-')[-1])]), done)
        elif what == 2:
            last = random.randint(1, 3)
            call(command.main, ['average', run, '--last', last, '--output', place / 'average.ckpt'])
            _weights(place / 'average.ckpt')
        else:
            step = random.choice(sorted(whole))
            plan = restore.plan_restore(task, cfg, run / ('model.ckpt-%d' % step), training=True)
            restore.export(plan, place / 'out.ckpt')
            found = _weights(place / 'out.ckpt')
            require(same(found, {name: whole[step][name] for name in found}), done, 'export')

    return case


@group
def run_folders(sources):
    """A run's other files, damaged: resuming, reports and comparisons."""
    import dataclasses

    from common import report as command
    from common.configuration import config
    from common.evaluation.evaluate import write
    from common.reporting import report
    from common.training import metrics_logger, resume, run_lock, train

    report._pictures = lambda run: []
    task = task_of('lenet')
    cfg = config.parse(task.config, [])
    names = ['config.yaml', 'metrics.jsonl', 'eval.json', 'confusion.npy', 'offline/offline.json']
    names += ['best/best.json', 'run.lock', 'checkpoint', 'log.txt', 'report.md']

    def case(random, place):
        run = fresh(sources / 'run', place / 'run')
        (run / 'run.lock').write_text('{"host": "h", "pid": 1, "started": 1.0, "since": "x"}')
        before = snapshot(run)
        chosen = random.choice(names)
        damage_file(run / chosen, random)
        what = random.randrange(5)
        if what == 0:
            call(command.main, [run])
            require((run / 'report.md').read_text().startswith('# '), 'no report')
        elif what == 1:
            flags = random.choice(['--compare', '--results'])
            output = place / ('out' if flags == '--compare' else 'out.md')
            call(command.main, [flags, run, sources / 'run', '--output', output])
        elif what == 2:
            with run_lock.locked(str(run)):
                pass
        else:
            own = dataclasses.replace(cfg, output_path=str(run))
            start = resume.find_start(task, own, 20, {'train': 'x'})
            require(start.step == 12, 'starts at step', start.step)
            logger = metrics_logger.MetricsLogger(str(run), True, start.step)
            logger.record('eval', step=start.step, top1=0.5)
            place_of = types.SimpleNamespace(task=task, cfg=own)
            result = dict(top1=0.9, checkpoint=start.checkpoint, counts={}, step=12)
            train._keep_best(place_of, result)
            write(result, str(run))
        kept = [chosen, 'report', 'plots/', 'best/', 'eval.json', 'metrics.jsonl', 'checkpoint']
        require_kept(run, before, kept + ['events', 'run.lock', 'log.txt'])

    return case


@group
def rank_tables(sources):
    """Rank tables with other values or bytes: refused, or complete."""
    from hccl import rank_table
    from hccl.rules import read

    found = sorted((sources / 'tables').glob('*.json'))

    def case(random, place):
        path = place / 'table.json'
        shutil.copyfile(str(random.choice(found)), str(path))
        damage_file(path, random)
        devices, lines = read(path)
        require(all(line.isprintable() and ': ' in line for line in lines), lines)
        if random.random() < 0.3:
            call(rank_table.main, ['merge', path, '--output', place / 'merged.json'])
        loaded = rank_table.load(path)
        require(not lines, 'loaded in spite of', lines)
        require(
            loaded == devices and len(devices) == path.read_text().count('"device_id"') > 0, devices
        )
        require([device.rank_id for device in devices] == list(range(len(devices))), devices)

    return case
