"""Files that are whole or absent, whatever happens while they are written."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from common import files
from common.errors import UserError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, text):
    with files.atomic(path) as temporary:
        temporary.write_text(text)


def test_a_file_is_replaced_and_parents_are_made(tmp_path):
    for text in ('one', 'two'):
        write(tmp_path / 'a' / 'b' / 'file.txt', text)
        assert (tmp_path / 'a' / 'b' / 'file.txt').read_text() == text
    assert names(tmp_path / 'a' / 'b') == ['file.txt']


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    write(tmp_path / 'file', 'old')
    with pytest.raises(ValueError):
        with files.atomic(tmp_path / 'file') as temporary:
            temporary.write_text('half')
            raise ValueError
    assert names(tmp_path) == ['file'] and (tmp_path / 'file').read_text() == 'old'


def test_the_suffix_stays(tmp_path):
    with files.atomic(tmp_path / 'array.npy') as temporary:
        np.save(str(temporary), np.arange(3))
    assert np.load(str(tmp_path / 'array.npy')).tolist() == [0, 1, 2]


def test_a_folder_is_whole_too(tmp_path):
    (tmp_path / 'target').mkdir()  # empty: it holds nothing to lose
    with files.atomic(tmp_path / 'target') as temporary:
        (temporary / 'deep').mkdir(parents=True)
        (temporary / 'deep' / 'file').write_text('1')
        assert names(tmp_path / 'target') == []
    assert names(tmp_path) == ['target'] and names(tmp_path / 'target') == ['deep']


@pytest.mark.parametrize('as_folder', [False, True])
def test_a_folder_is_never_replaced(tmp_path, as_folder):
    (tmp_path / 'target').mkdir()
    (tmp_path / 'target' / 'precious').write_text('x')
    with pytest.raises(UserError, match='target is a folder that is not empty; remove it'):
        with files.atomic(tmp_path / 'target') as temporary:
            temporary.mkdir() if as_folder else temporary.write_text('new')
    assert names(tmp_path) == ['target'] and names(tmp_path / 'target') == ['precious']


def test_a_file_does_not_replace_an_empty_folder(tmp_path):
    (tmp_path / 'target').mkdir()
    with pytest.raises(UserError, match='target is a folder; remove it'):
        write(tmp_path / 'target', 'new')
    assert names(tmp_path) == ['target'] and (tmp_path / 'target').is_dir()


def test_a_folder_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(OSError):
        with files.atomic(tmp_path / 'target') as temporary:
            temporary.mkdir()
            (tmp_path / 'target').mkdir()
            (tmp_path / 'target' / 'precious').write_text('x')
    assert names(tmp_path / 'target') == ['precious']


@pytest.mark.parametrize('kind', ['write_text("half")', 'mkdir(); (t / "part").write_text("x")'])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, kind):
    code = (
        'import os, signal, sys; from common.files import atomic\n'
        'with atomic(sys.argv[1]) as t:\n    t.%s\n    os.kill(os.getpid(), signal.SIGKILL)' % kind
    )
    path = tmp_path / 'result.json'
    killed = subprocess.run([sys.executable, '-c', code, str(path)])
    assert killed.returncode == -signal.SIGKILL and len(names(tmp_path)) == 1
    (tmp_path / '.other.json').write_text('not ours')
    write(path, 'whole')
    assert names(tmp_path) == ['.other.json', 'result.json']


def test_a_writer_at_work_is_left_alone(tmp_path):
    with files.atomic(tmp_path / 'a.txt') as ours:
        ours.write_text('ours')
        code = 'import sys; from common.files import write_json; write_json(sys.argv[1], {})'
        subprocess.check_call([sys.executable, '-c', code, str(tmp_path / 'a.txt')])
    assert (tmp_path / 'a.txt').read_text() == 'ours'


def test_all_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(
        os, 'fsync', lambda fd: (done.append(os.readlink('/proc/self/fd/%d' % fd)), fsync(fd))
    )
    monkeypatch.setattr(os, 'replace', lambda *paths: (done.append('replace'), replace(*paths)))
    with files.atomic(tmp_path / 'target') as temporary:
        temporary.mkdir()
        (temporary / 'file').write_text('x')
    assert done == [str(temporary), str(temporary / 'file'), 'replace', str(tmp_path)]


@pytest.mark.parametrize('name', ['n' * 251, '图' * 83])  # names have at most 255 bytes
def test_the_longest_name(name, tmp_path):
    write(tmp_path / (name + '.txt'), 'x')
    assert len(names(tmp_path)) == 1


def test_the_next_folder_removes_that_of_a_killed_process(tmp_path):
    code = (
        'import os, signal, sys; from common.files import temporary_folder\n'
        'with temporary_folder("work", sys.argv[1]) as folder:\n'
        '    (folder / "file").write_text("x"); os.kill(os.getpid(), signal.SIGKILL)'
    )
    subprocess.run([sys.executable, '-c', code, str(tmp_path)])
    assert len(names(tmp_path)) == 1
    with files.temporary_folder('work', tmp_path) as one, files.temporary_folder(
        'work', tmp_path
    ) as two:
        assert sorted(names(tmp_path)) == sorted([one.name, two.name])
    assert not names(tmp_path)


@pytest.mark.parametrize('text', [b'', b'{', b'NaN,', b'"\xff"', b'[' * 100000, b'{"a":' * 100000])
def test_a_file_that_is_not_json(text, tmp_path):
    (tmp_path / 'a.json').write_bytes(text)
    with pytest.raises(ValueError):
        files.read_json(tmp_path / 'a.json')


def test_json_is_utf_8_in_any_locale(tmp_path):
    (tmp_path / 'a.json').write_bytes('{"Größe": "é"}'.encode())
    code = 'import sys; from common.files import read_json; print(ascii(read_json(sys.argv[1])))'
    found = subprocess.check_output(
        [sys.executable, '-X', 'utf8=0', '-c', code, str(tmp_path / 'a.json')],
        env=dict(os.environ, LC_ALL='POSIX', PYTHONCOERCECLOCALE='0'),
    )
    assert found.decode().strip() == ascii({'Größe': 'é'})
