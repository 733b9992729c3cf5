"""What the device is given: one graph a step, and the options that its adapter release knows."""

import json
import pathlib

import pytest
from npu_runs import succeeds

pytestmark = [pytest.mark.slow]
SCRIPTS = pathlib.Path(__file__).resolve().parent / 'on_npu'


OPTIONS = [
    '--variant paper --optimizer momentum --mixup 0.2 --dropout_rate 0.3',
    '--variant port --optimizer adam --brightness 63 --contrast 0.8',
    '--variant mindspore --optimizer rmsprop --cutout 8',
    '--optimizer momentumw --accumulate 2 --clip_norm 1 --ema_decay 0.9 --dropout_rate 0.3',
    '--optimizer sgd --precision float32 --loss focal --clip_norm 1',
    '--freeze_bn True --label_smoothing 0.1 --loss_scale 1024 --normalization per_image',
    '--optimizer adam --accumulate 2 --mixup 0.2 --cutout 8 --loss_scale 1024 --precision mixed',
]


# GE_OPS_WHITELIST of dp_tf_to_ge_conversion_pass.cc (GetSplitEdges): on a 910A the adapter takes
# such stages at a dataset's end, with their functions, to the device's AI CPU.
TAKEN = (
    'MapDataset ParallelMapDataset BatchDataset BatchDatasetV2 MapAndBatchDataset'
    ' MapAndBatchDatasetV2'
).split()


def test_every_training_step_is_one_graph_for_the_device(launch, recipe, data, tmp_path):
    """No Python, feeds, strings, summaries or unknown shapes in what the train op, loss and rate
    need; and the stand-in's own check.
    """
    arguments = recipe(batch_size=4, dropout_rate=0.0), data, json.dumps(OPTIONS)
    text = succeeds(launch(tmp_path, *arguments, script=SCRIPTS / 'graphs.py'))
    found = json.loads(next(line for line in text.splitlines() if line.startswith('[{')))
    assert len(found) == len(OPTIONS)
    for options, graph in zip(OPTIONS, found):
        foreign = [key for key in ('python', 'fed', 'strings', 'unknown', 'host') if graph[key]]
        assert not foreign, (options, graph)
        assert graph['last_stage'].endswith('Dataset') and graph['last_stage'] not in TAKEN, options
        assert graph['applies'] == graph['variables'] > 10 and graph['names'], options
        assert bool(graph['drops']) == ('dropout' in options), options


RELEASES = (
    'r1.5.0 r1.5.1 r1.6.0 r1.7.0 r1.8.0 r1.9.0 r1.10.0 r1.11.0 r1.12.0 r1.13.0 r1.14.0 r1.14.1'
    ' r1.15.0 master'
).split()
OPTIONS_OF_EVERY_RELEASE = set(
    'op_select_implmode op_compiler_cache_mode aoe_mode graph_memory_max_size modify_mixlist'
    ' dump_step profiling_options precision_mode'.split()
)
# Releases that changed no signature -> what the doctor calls them.
SAME = {'r1.5.1': 'r1.5.0', 'r1.14.0': 'r1.13.0', 'r1.14.1': 'r1.13.0'}


def test_every_release_of_the_adapter_takes_what_it_knows(launch, tmp_path):
    (tmp_path / 'mixlist.json').write_text('{}')
    text = succeeds(launch(tmp_path, tmp_path, *RELEASES, script=SCRIPTS / 'releases.py'))
    rows = [json.loads(line) for line in text.splitlines() if line.startswith('["')]
    assert [row[0] for row in rows] == RELEASES
    since = {'deterministic': 'r1.12.0', 'customize_dtypes': 'r1.9.0', 'jit_compile': 'r1.10.0'}
    warned = 'warning: this adapter has no %s; left out\n'
    for index, (release, told, *cases) in enumerate(rows):
        missing = {name for name, first in since.items() if index < RELEASES.index(first)}
        if release == 'r1.12.0':
            missing.add('jit_compile')
        assert SAME.get(release, release) in told.split(), (release, told)
        everything, other, plain = cases
        assert everything[0] == (warned % 'deterministic' if 'deterministic' in missing else '')
        lacking, older = sorted(missing - {'deterministic'}), index < RELEASES.index('r1.13.0')
        assert other[0] == (
            'precision_mode_v2 mixed_float16 is precision_mode allow_mix_precision on this'
            ' adapter\n' * older + (warned % ', '.join(lacking) if lacking else '')
        )
        assert ('precision_mode' in other[3], 'precision_mode_v2' in other[3]) == (older, not older)
        assert set(other[3]) >= {'enable_small_channel', 'fusion_switch_file', 'op_precision_mode'}
        assert plain[0] == '' and all(case[1:3] == [5, 10] for case in cases)
        assert set(everything[3]) >= OPTIONS_OF_EVERY_RELEASE
        assert ('deterministic' in everything[3]) == ('deterministic' not in missing)
