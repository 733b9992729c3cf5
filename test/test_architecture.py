"""Who may import whom (the diagram in README.md); how long files, lines and functions may be."""

import ast
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOPS = ('common', 'hccl', 'offline_inference', 'resnest_tf', 'wideresnet_tf', 'xception_tf')
MODELS = ('resnest_tf', 'wideresnet_tf', 'xception_tf')
LINES, FUNCTION_LINES, COLUMNS = 300, 50, 100

FILES = {
    '.'.join(path.relative_to(ROOT).with_suffix('').parts).replace('.__init__', ''): path
    for top in TOPS
    for path in sorted((ROOT / top).rglob('*.py'))
}
TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}


def imports(module):
    """Modules of this repository that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(TREES[module]):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, '%s imports relatively' % module
            names = ['%s.%s' % (node.module, alias.name) for alias in node.names]
        for name in names:
            while name and name not in FILES:
                name = name.rpartition('.')[0]
            if name and name != 'hccl':  # CANN has an hccl of its own, ours has nothing in __init__
                found.add(name)
    return found - {module}


def diagram():
    """[names of a line] from the top, as drawn in the README."""
    text = (ROOT / 'README.md').read_text().split('## How it is built', 1)[1]
    lines = text.split('```')[1].strip('\n').splitlines()
    return [line.split('|')[1].split() for line in lines if '|' in line]


def room(module):
    """The name that stands for a module in the diagram."""
    parts = module.split('.')
    if parts[0] != 'common' or len(parts) == 1:
        return parts[0]
    drawn = {name for line in diagram() for name in line}
    return parts[1] if parts[1] in drawn else 'commands'


def test_imports_point_down_in_the_diagram():
    height = {name: i for i, line in enumerate(diagram()) for name in line}
    rooms = {room(module) for module in FILES} - {'common'}
    assert rooms == set(height), 'the diagram and the folders differ'
    wrong = [
        '%s -> %s' % (module, name)
        for module in FILES
        for name in sorted(imports(module))
        if name != 'common' and height[room(name)] < height[room(module)]
    ]
    assert not wrong


def test_models_and_launcher_stand_beside_each_other():
    """A model imports no other model; the launcher starts without TensorFlow. hccl.modelzoo, which
    starts it and then reads what the run has written, stands above it.
    """
    allowed = {model: {model, 'common'} for model in MODELS}
    allowed['offline_inference'] = {'offline_inference', 'common'}
    wrong = [
        '%s -> %s' % (module, name)
        for module in FILES
        for name in imports(module)
        if name.split('.')[0] not in allowed.get(module.split('.')[0], TOPS)
    ]
    wrong += [
        '%s -> %s' % (module, name)
        for module in FILES
        for name in imports(module)
        if module.startswith('hccl') and module != 'hccl.modelzoo'
        if room(name) not in ('hccl', 'ascend', 'errors', 'files', 'signals')
    ]
    assert not wrong


def test_no_import_circle():
    edges = {module: imports(module) for module in FILES}
    while edges:
        leaves = {module for module, needed in edges.items() if not needed & set(edges)}
        assert leaves, 'a circle among %s' % ', '.join(sorted(edges))
        edges = {module: needed for module, needed in edges.items() if module not in leaves}


def length(node, lines):
    """Lines of a function. Python 3.7 knows where a node begins: lines of brackets may follow."""
    end = max(getattr(child, 'lineno', 0) for child in ast.walk(node))
    while end < len(lines) and lines[end].strip() and not lines[end].strip(')]},'):
        end += 1
    return end - node.lineno + 1


def too_long_or_wide(path, lines):
    found = ['%s: %d lines' % (path, len(lines))] if len(lines) > LINES else []
    return found + [
        '%s:%d: %d columns' % (path, number, len(line))
        for number, line in enumerate(lines, 1)
        if len(line) > COLUMNS
    ]


@pytest.mark.parametrize('top', TOPS)
def test_files_functions_and_lines_are_short(top):
    too_long = []
    for module, path in FILES.items():
        if path.relative_to(ROOT).parts[0] != top:
            continue
        lines = path.read_text().splitlines()
        too_long += too_long_or_wide(path, lines) + [
            '%s: %s has %d lines' % (path, node.name, length(node, lines))
            for node in ast.walk(TREES[module])
            if isinstance(node, ast.FunctionDef) and length(node, lines) > FUNCTION_LINES
        ]
    assert not too_long


def test_files_and_lines_of_tests_are_short():
    tests = [path for path in sorted((ROOT / 'test').rglob('*.py')) if path.is_file()]
    assert len(tests) > 100
    assert not [
        text for path in tests for text in too_long_or_wide(path, path.read_text().splitlines())
    ]


def test_the_top_level_holds_what_belongs_there():
    listed = subprocess.run(['git', 'ls-files'], cwd=str(ROOT), stdout=subprocess.PIPE)
    if listed.returncode:
        pytest.skip('not a git checkout')
    folders = {line.split('/')[0] for line in listed.stdout.decode().splitlines() if '/' in line}
    assert folders == {*TOPS, '.ci', 'docs', 'test'}
