"""Defaults < YAML < flags, and what is said about mistakes."""

import dataclasses
import re

import pytest
import yaml
from typing_extensions import Literal

from common.configuration import command_line, config, fields
from common.configuration.fields import PositiveInt, option
from common.configuration.settings import Config
from common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Example(Config):
    model = 'example'
    aliases = {'depths': 'depth', 'epoch': 'epochs'}
    depth: PositiveInt = option(28, 'layers')
    variant: Literal['paper', 'port'] = option('paper', 'graph')


def parse(*argv, of=Example):
    return config.parse(of, [str(word) for word in argv])


@pytest.fixture
def yaml_file(tmp_path):
    def write(text):
        path = tmp_path / 'recipe.yaml'
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return path

    return write


def refused(message, *argv):
    with pytest.raises(UserError, match=message) as error:
        parse(*argv)
    assert '\n' not in str(error.value)
    return str(error.value)


# Precedence


def test_defaults_are_those_of_the_class():
    assert parse() == Example()


def test_flags_win_over_yaml_and_yaml_over_defaults(yaml_file):
    path = yaml_file({'model': 'example', 'depth': 40, 'batch_size': 64})
    cfg = parse('--config', path, '--depth', 16)
    assert (cfg.depth, cfg.batch_size, cfg.momentum) == (16, 64, 0.9)


@pytest.mark.parametrize(
    'order',
    [
        ['--depth', '16', '--seed', '7', '--config', 'RECIPE'],
        ['--depth', '16', '--config', 'RECIPE', '--seed', '7'],
        ['--config', 'RECIPE', '--depth', '16', '--seed', '7'],
        ['--depth=16', '--config=RECIPE', '--seed=7'],
    ],
)
def test_config_may_stand_anywhere(order, yaml_file):
    path = yaml_file({'depth': 40, 'batch_size': 64, 'seed': 3})
    cfg = parse(*[word.replace('RECIPE', str(path)) for word in order])
    assert (cfg.depth, cfg.batch_size, cfg.seed) == (16, 64, 7)


def test_of_repeated_flags_the_last_counts(tmp_path):
    for name, batch in (('a', 8), ('b', 9)):
        (tmp_path / name).write_text('batch_size: %d' % batch)
    assert parse('--depth', 10, '--depth', 16).depth == 16
    assert parse('--config', tmp_path / 'a', '--config', tmp_path / 'b').batch_size == 9


def test_default_recipe_is_read_unless_another_is_given(tmp_path, yaml_file):
    (tmp_path / 'default.yaml').write_text('seed: 5\ndepth: 16')

    class WithDefault(Example):
        default_recipe = tmp_path / 'default.yaml'

    assert parse(of=WithDefault).seed == 5
    cfg = parse('--seed', 6, of=WithDefault)
    assert (cfg.seed, cfg.depth) == (6, 16)
    cfg = parse('--config', yaml_file({'depth': 22}), of=WithDefault)
    assert (cfg.seed, cfg.depth) == (1, 22)


# Spellings


@pytest.mark.parametrize(
    'words',
    [['--depths', '16'], ['--depths=16'], ['--depth', '16'], ['--depth', '22', '--depths', '16']],
)
def test_published_flags_are_aliases(words):
    assert parse(*words).depth == 16


def test_alias_takes_what_its_field_takes():
    assert parse('--epoch', 40).epochs == 40.0


@pytest.mark.parametrize(
    'word, value', [('True', True), ('true', True), ('False', False), ('false', False)]
)
def test_booleans(word, value):
    assert parse('--do_train', word).do_train is value
    assert parse('--staircase=' + word).staircase is value


@pytest.mark.parametrize('word', ['1e-4', '0.0001', '1E-4', '.0001'])
def test_numbers_in_every_notation_on_the_command_line_and_in_yaml(word, yaml_file):
    assert parse('--learning_rate', word).learning_rate == 0.0001
    assert parse('--config', yaml_file('learning_rate: ' + word)).learning_rate == 0.0001


@pytest.mark.parametrize('word', ['2020-02-30', '!!int ""', '[' * 5000, '1: 2'])
def test_texts_that_yaml_stumbles_over(word):
    assert parse('--data_path', word).data_path == word


def test_none_as_python_prints_it(yaml_file):
    path = yaml_file({'model_path': 'a', 'image_num': 3, 'steps': 4})
    cfg = parse('--config', path, '--model_path', 'None', '--image_num=None')
    assert (cfg.model_path, cfg.image_num, cfg.steps) == (None, None, 4)


@pytest.mark.parametrize(
    'text',
    [
        'run #2',
        'a\nb',
        "'x'",
        '123',
        '1e3',
        'true',
        'null',
        'None',
        'a=b',
        'a: b',
        '[a]',
        'with space',
        'ä',
    ],
)
def test_paths_stay_as_they_are_written(text):
    assert parse('--data_path', text).data_path == text
    assert parse('--data_path=' + text).data_path == text


def test_lists_and_unions():
    cfg = parse(
        '--schedule',
        'piecewise',
        '--boundaries',
        '[60, 120.5]',
        '--factors=[0.2,1e-3]',
        '--loss_scale',
        '1024',
    )
    assert (cfg.boundaries, cfg.factors, cfg.loss_scale) == ([60.0, 120.5], [0.2, 0.001], 1024.0)
    assert parse('--loss_scale', 'dynamic').loss_scale == 'dynamic'


def test_defaults_of_lists_are_not_shared():
    parse().factors.append(1.0)
    assert parse().factors == []


# Mistakes: the key or flag, what was found, what is legal, the nearest name


@pytest.mark.parametrize(
    'argv, message',
    [
        (['--batch_siz', '3'], "unknown flag --batch_siz .*did you mean 'batch_size'"),
        (['--batch_siz=3'], "unknown flag --batch_siz .*did you mean 'batch_size'"),
        (['--dephts', '16'], "unknown flag --dephts .*did you mean 'depth"),
        (['--zzz', '16'], 'unknown flag --zzz .*--help all lists them'),
        (['-b', '3'], 'unknown flag -b'),
        (['-depth', '16'], "unknown flag -depth .*did you mean 'depth'"),
        (['---depth', '16'], "unknown flag ---depth .*did you mean 'depth'"),
        (['depth', '16'], 'depth 16'),
        (['--batch_size', '3.5'], "batch_size: '3.5' .*whole number above 0"),
        (['--batch_size', '0'], "batch_size: '0' .*whole number above 0"),
        (['--batch_size', '-1'], "batch_size: '-1' .*whole number above 0"),
        (['--batch_size', 'None'], "batch_size: 'None' .*whole number above 0"),
        (['--batch_size'], 'batch_size needs a value.*whole number above 0'),
        (['--batch_size='], "batch_size: '' .*whole number above 0"),
        (['--depth', '16', '--batch_size'], 'batch_size needs a value.*whole number above 0'),
        (['--batch_size', '--depth', '16'], 'batch_size.*whole number above 0'),
        (['--depths', 'x'], "depth: 'x' .*whole number above 0"),
        (['--seed', '-1'], "seed: '-1' .*0 or more"),
        (['--image_num', '0'], "image_num: '0' .*whole number above 0 or None"),
        (['--learning_rate', 'abc'], "learning_rate: 'abc' .*a number above 0"),
        (['--learning_rate', 'nan'], "learning_rate: 'nan'"),
        (['--learning_rate', '.nan'], 'learning_rate: '),
        (['--learning_rate', 'inf'], 'learning_rate: inf .*finite'),
        (['--weight_decay', 'inf'], 'weight_decay: inf .*finite'),
        (['--weight_decay', '-0.1'], "weight_decay: '-0.1' .*0 or more"),
        (['--loss_scale', 'inf'], 'loss_scale: inf .*finite'),
        (['--do_train', 'Ture'], "do_train: 'Ture' .*True or False"),
        (['--do_train', '1'], "do_train: '1' .*True or False"),
        (['--variant', 'ports'], "variant: 'ports' .*paper or port; did you mean 'port'"),
        (['--schedule', 'liner'], "schedule: 'liner' .*linear.*did you mean 'linear'"),
        (['--optimizer', 'Adam'], "optimizer: 'Adam' .*did you mean 'adam'"),
        (['--loss_scale', 'dynamik'], "loss_scale: 'dynamik' .*dynamic"),
        (['--loss_scale', '0'], "loss_scale: '0' "),
        (['--boundaries', '60', '120'], "boundaries: '60' .*a list such as"),
        (['--boundaries', '[a]'], r"boundaries: '\[a\]' .*a list such as"),
        (['--momentum', '1'], 'momentum: 1.0 .*< 1'),
        (['--label_smoothing', '1.5'], 'label_smoothing: 1.5 .*< 1'),
        (['--ema_decay', '1'], 'ema_decay: 1.0 .*< 1'),
        (['--schedule', 'piecewise'], r'piecewise: .*found boundaries \[\] and factors \[\]'),
        (
            ['--schedule', 'piecewise', '--boundaries', '[1]', '--factors', '[0.1, 1]'],
            'a factor for each; found boundaries',
        ),
        (['--boundaries', '[120, 60]'], 'boundaries: .*must ascend'),
        (['--boundaries', '[60, 60]'], 'boundaries: .*must ascend'),
        (['--boundaries', '[0, 60]'], 'boundaries: .*must ascend, all above 0'),
        (['--factors', '[-0.1]'], 'factors: .*at least 0'),
        (['--schedule', 'exponential', '--decay_rate', '0'], 'decay_rate: .*a number above 0'),
        (['--end_factor', '-1'], 'end_factor: .*a number, 0 or more'),
        (['--warmup_epochs', '-1'], 'warmup_epochs: .*a number, 0 or more'),
        (
            ['--schedule', 'piecewise', '--boundaries', '[1]', '--factors', '[.nan]'],
            'factors: .*nan.*finite',
        ),
        (['--boundaries', '[.inf]'], 'boundaries: .*inf.*finite'),
        (['--loss', 'focal', '--label_smoothing', '0.1'], 'label_smoothing.*focal'),
        (['--config'], '--config needs a file'),
        (['--depth', '16', '--config'], '--config needs a file'),
        (['--config', 'nope.yaml'], '--config nope.yaml: No such file'),
    ],
)
def test_mistakes_on_the_command_line(argv, message):
    refused(message, *argv)


@pytest.mark.parametrize(
    'text, message',
    [
        ('epohcs: 4', "unknown key 'epohcs' in .*recipe.yaml; did you mean 'epochs'"),
        ('epoch: 4', "unknown key 'epoch' .*did you mean 'epochs'"),
        ('1: 2', 'unknown key 1 '),
        ('config: x', "unknown key 'config'"),
        ('model: xception', 'another model'),
        ('', 'key: value'),
        ('- a', 'key: value.*list'),
        ('a: [', 'recipe.yaml is not valid YAML'),
        ('a: b: c', 'recipe.yaml is not valid YAML'),
        ('a: 2020-02-30', 'recipe.yaml is not valid YAML'),
        ('a: !!int ""', 'recipe.yaml is not valid YAML'),
        ('batch_size: 8.5', 'batch_size: 8.5 .*whole number above 0'),
        ('batch_size:', 'batch_size: None .*whole number above 0'),
        ('learning_rate: .nan', 'learning_rate: nan'),
        ('data_path:', 'data_path: None .*text'),
        ('flip: 3', "unknown key 'flip'"),
        ('nesterov: 3', 'nesterov: 3 .*True or False'),
        ('output_path: 5', 'output_path: 5 .*a text or None'),
        ('boundaries: 5', 'boundaries: 5 .*a list such as'),
        ('published: 5', 'published: 5 .*source.*metric'),
        ('published: {a: {b: x}}', 'published: .*source.*metric'),
    ],
)
def test_mistakes_in_a_recipe(text, message, yaml_file):
    refused(message, '--config', yaml_file(text))


def test_mistake_in_yaml_is_reported_though_another_flag_is_right(yaml_file):
    refused('batch_size: 0', '--config', yaml_file('batch_size: 0'), '--depth', '16')


def test_missing_recipe_names_the_nearest(tmp_path, yaml_file):
    yaml_file('depth: 16')
    refused("did you mean 'recipe.yaml'", '--config', tmp_path / 'recpie.yaml')


def test_recipe_that_is_a_folder_or_binary(tmp_path):
    refused('--config .*Is a directory', '--config', tmp_path)
    (tmp_path / 'b.yaml').write_bytes(b'\xd0\xff\x00')
    refused('b.yaml', '--config', tmp_path / 'b.yaml')


# Saved configurations


def test_saved_config_reads_back_equal(tmp_path, yaml_file):
    published = {'paper, median of 5': {'top1': 0.9611, 'top5': 1.0}}
    cfg = parse(
        '--config',
        yaml_file({'published': published, 'boundaries': [1, 2.5]}),
        '--schedule',
        'piecewise',
        '--factors',
        '[1e-05, 0]',
        '--loss_scale',
        32,
        '--image_num',
        5,
        '--data_path',
        '123',
        '--model_path',
        'a: b',
        '--seed',
        2**31,
    )
    assert cfg.published == published
    config.save(cfg, tmp_path / 'run' / 'config.yaml', 'example')
    again = parse('--config', tmp_path / 'run' / 'config.yaml')
    assert again == cfg
    assert [type(value) for value in dataclasses.astuple(again)] == [
        type(value) for value in dataclasses.astuple(cfg)
    ]
    assert config.changes(again, config.read_yaml(tmp_path / 'run' / 'config.yaml')) == {}


def test_saved_config_names_every_field_and_the_model(tmp_path):
    config.save(Example(), tmp_path / 'config.yaml', 'example')
    saved = yaml.safe_load((tmp_path / 'config.yaml').read_text())
    assert saved.pop('model') == 'example'
    assert list(saved) == [field.name for field in dataclasses.fields(Example)]


def test_changes_and_summary():
    cfg = parse('--depth', 16, '--factors', '[0.5]')
    base = dataclasses.asdict(Example())
    assert config.changes(cfg, base) == {'depth': (28, 16), 'factors': ([], [0.5])}
    assert config.changes(cfg, {'depth': 40, 'gone_since': 1}) == {'depth': (40, 16)}
    assert config.summary(cfg) == 'factors=[0.5]  depth=16'


@pytest.fixture
def page(capsys):
    """page(words of --help): its lines."""

    def show(*words):
        with pytest.raises(SystemExit) as stop:
            parse('--help', *words)
        assert not stop.value.code
        return capsys.readouterr().out.splitlines()

    return show


def test_help_is_one_page_that_names_every_flag(page):
    lines = page()
    assert len(lines) < 70 and max(map(len, lines)) <= 110
    for field in dataclasses.fields(Example):
        assert re.search(r'\b%s\b' % field.name, '\n'.join(lines)), field.name
    assert any(line.startswith('Train: ') for line in lines)


def test_help_describes_each_group_in_words(page):
    every = '\n'.join(page('all'))
    for field in dataclasses.fields(Example):
        assert re.search('--%s[ ,]' % field.name, every), field.name
    assert '--depths' in every and 'layers' in every and 'a whole number above 0' in every
    assert page('npu')[1] == 'Ascend NPU' and not any('--seed' in line for line in page('npu'))
    assert page('learning')[1:3] == [
        'Learning rate',
        '  --learning_rate  a number above 0; default: 0.1',
    ]


def test_flags_of_the_other_commands_of_a_run_script(monkeypatch, capsys):
    options, cfg = command_line.parse(Example, ['--show_batch=3', '--depth', '16'])
    assert options.show_batch == 3 and cfg.depth == 16
    words = ['--predict', 'a.png', 'b', '--class_names', 'f', '--model_path', 'c']
    options, cfg = command_line.parse(Example, words)
    assert (options.predict, options.class_names, cfg.model_path) == (['a.png', 'b'], 'f', 'c')
    monkeypatch.setattr('sys.argv', ['run.py', '--predct', 'a.png'])
    with pytest.raises(SystemExit):
        command_line.check(Example)
    assert "did you mean 'predict'" in capsys.readouterr().err


# Options without effect


@pytest.mark.parametrize(
    'words, notes',
    [
        (
            ['--nesterov', 'True', '--optimizer', 'adam'],
            ['nesterov has no effect with optimizer adam'],
        ),
        (['--focal_gamma', '3'], ['focal_gamma has no effect with loss cross_entropy']),
        (['--focal_gamma', '3', '--loss', 'focal'], []),
        (['--restart', 'True'], ['restart has no effect with do_train False']),
        (['--deterministic', '1'], ['deterministic: no effect with device cpu']),
        (['--warmup_factor', '0.5'], ['warmup_factor has no effect with warmup_epochs 0.0']),
        (['--warmup_factor', '0.5', '--warmup_epochs', '1'], []),
        (['--power', '2', '--schedule', 'cosine'], ['power has no effect with schedule cosine']),
        (
            ['--loss_scale', '8', '--precision', 'float32'],
            ['loss_scale has no effect with precision float32'],
        ),
    ],
)
def test_options_without_effect_are_reported(words, notes):
    assert fields.without_effect(parse(*words), 'cpu') == notes


@pytest.mark.parametrize(
    'words, message',
    [
        (
            ['--batch_size', '99999999999'],
            'batch_size: 99999999999 is not legal; give at most 65536',
        ),
        (['--data_path', 'a\0b'], 'data_path: .* is not legal; give a text'),
        (['--data_path', 'a\udcff'], r"data_path: 'a\\udcff' is not legal; give a text"),
        (
            ['--do_train', 'True', '--output_path', 'a[1]/b'],
            r'output_path a\[1\]/b: TensorFlow takes',
        ),
        (['--do_train', 'True', '--output_path', 'a\\b'], 'for a pattern; give a path without'),
        (['--output_path', ' '], "output_path: '' is not legal .an unset shell variable"),
    ],
)
def test_absurd_values(words, message):
    with pytest.raises(UserError, match=message):
        parse(*words)


def test_needs_name_fields_and_legal_values():
    for field in dataclasses.fields(Example):
        for other, values in field.metadata['needs'].items():
            if values is fields.NOT_ZERO:
                assert hasattr(Example(), other) and 0 not in values and 1 in values
                continue
            for value in values:
                assert getattr(dataclasses.replace(Example(), **{other: value}), other) == value
