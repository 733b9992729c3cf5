"""The pages at the top: commands that run as written, the same in both languages, links."""

import dataclasses
import os
import pathlib
import re
import shlex
import shutil
import subprocess

import forked_python
import pytest

from resnest_tf.config import ResNeStConfig
from wideresnet_tf.config import WideResNetConfig
from xception_tf.config import XceptionConfig

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = sorted(ROOT.glob('*.md')) + sorted(ROOT.glob('*/README.md'))


def commands(page):
    """Lines of the ```bash blocks without their comments."""
    blocks = re.findall(r'```bash\n(.*?)```', (ROOT / page).read_text(), re.S)
    lines = [re.sub(r'(^|\s+)#.*', '', line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_both_languages_have_the_same_commands_links_and_tables():
    english, chinese = ((ROOT / name).read_text() for name in ('README.md', 'README.zh-CN.md'))
    assert commands('README.md') == commands('README.zh-CN.md')
    links = [sorted(set(re.findall(r'\]\(([^)]+)\)', text))) for text in (english, chinese)]
    assert set(links[0]) - {'README.zh-CN.md'} == set(links[1]) - {'README.md'}
    drawn = [
        re.findall(r'^.*\|(.*)\|.*$', text.split('```')[-2], re.M) for text in (english, chinese)
    ]
    assert drawn[0] == drawn[1] and len(drawn[0]) > 5
    flags = [sorted(set(re.findall(r'--\w+', text))) for text in (english, chinese)]
    assert flags[0] == flags[1]


@pytest.mark.parametrize('name', ['README.md', 'README.zh-CN.md'])
def test_speeds_beside_pytorch_are_those_of_the_performance_page(name):
    measured = re.findall(r'([\d.]+) x pytorch', (ROOT / 'PERFORMANCE.md').read_text())
    text = (ROOT / name).read_text()
    line = text[text.index('./setup.sh --mkl') : text.rindex('(PERFORMANCE.md')]
    told = re.findall(r'([\d.]+)\s*(?:times|倍)', line)
    assert len(told) == 2 and set(told) <= {'%.2f' % float(ratio) for ratio in measured}


@pytest.mark.parametrize('page', PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    targets = re.findall(r'\]\(([^)#\s]+)(?:#[^)]*)?\)', page.read_text())
    missing = [
        target for target in targets if '://' not in target and not (page.parent / target).exists()
    ]
    assert not missing


def test_flags_and_files_of_every_page_exist():
    """In each command for this suite, in blocks and in running text."""
    configs = (WideResNetConfig, XceptionConfig, ResNeStConfig)
    legal = {'config', 'help'}
    for config in configs:
        legal |= set(config.aliases) | {field.name for field in dataclasses.fields(config)}
    packages = ('common', 'hccl', 'offline_inference', 'wideresnet_tf', 'xception_tf', 'resnest_tf')
    for package in packages:
        for path in (ROOT / package).rglob('*.py'):
            legal |= set(re.findall(r"'(?:--)?(\w+)'", path.read_text().lower()))
    start = r'(?:python3? -m ({0})\b|(?:\S*/)?(?:run_\w+\.py|(?:train_[18]p|test_1p)\.sh))(.*)'
    checked, faults = 0, []
    for page in PAGES:
        text = page.read_text().replace('\\\n', ' ')
        for command in re.findall('[^\n`]+', re.sub(r'python(.*?)\n {4,}--', r'python\1 --', text)):
            for part in re.split(r' -- |(?<=\s)#', command):
                found = re.search(start.format('|'.join(packages)), part)
                if not found:
                    continue
                flags = set(re.findall(r'(?<=[\s\[])--(\w+)', found.group(2)))
                files = re.findall(r'\S+_tf/\S+\.(?:yaml|py|sh)\b|(?<=\s)configs/\S+', part)
                missing = [
                    f for f in files if not any((d / f).exists() for d in (ROOT, page.parent))
                ]
                faults += [(page.name, part, sorted(flags - legal) + missing)]
                checked += 1
    assert checked > 60 and not [fault for fault in faults if fault[2]]


@pytest.mark.slow
def test_commands_of_the_readme_run_as_written(start, tmp_path):
    """Pasted into a shell one after the other, in a copy of the tree; the training is shortened and
    the network small, and `python` is a fork, see forked_python.py.
    """
    for path in ROOT.iterdir():
        if path.name not in ('.git', 'runs', 'data', 'wideresnet_tf'):
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(str(ROOT / 'wideresnet_tf'), str(tmp_path / 'wideresnet_tf'))
    recipe = tmp_path / 'wideresnet_tf' / 'configs' / 'wrn16_2_digits.yaml'
    small = recipe.read_text().replace('depth: 16', 'depth: 10')
    recipe.write_text(small.replace('widen_factor: 2', 'widen_factor: 1'))
    lines = [line for line in commands('README.md') if not line.startswith('./')]
    assert lines[0] == '. .venv/bin/activate'
    lines = [re.sub('(--do_train True)$', r'\1 --steps 2', line) for line in lines]
    lines.insert(1, '[[ $(type -P python) == */.venv/bin/python ]]')
    forked = ' '.join(map(shlex.quote, forked_python.WORDS))
    lines.insert(2, 'python() { %s "$@"; }' % forked)
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    result = subprocess.run(
        ['bash', '-e'],
        input='\n'.join(lines),
        cwd=str(tmp_path),
        env=dict(env, PWD=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
    )
    assert result.returncode == 0, result.stdout
    assert 'ready    CPU (--device cpu)\n' in result.stdout  # the doctor
    assert 'ONNX' in result.stdout and (tmp_path / 'runs/digits/offline/offline.json').exists()
