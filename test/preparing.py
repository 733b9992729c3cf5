"""What the tests of prepare_imagenet, prepare_cityscapes and prepare_cifar share."""

import io
import json
import tarfile

import pytest


def write_files(folder, files):
    """Writes {relative name: bytes}; returns the folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tar(files, mode='w'):
    """A tar archive of {name: bytes}; None: the name is a folder's."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.DIRTYPE
            member.size = len(content or b'')
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def contents(folder):
    """{relative path: bytes} of all files below the folder."""
    files = [path for path in folder.rglob('*') if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def stamps(folder, pattern='**/*'):
    """{relative path: what changes if a file is written again}"""
    found = {path.relative_to(folder): path.stat() for path in folder.glob(pattern)}
    return {path: (s.st_ino, s.st_mtime_ns, s.st_size) for path, s in found.items()}


def described(folder):
    return json.loads((folder / 'dataset.json').read_text())


def refusal(capsys, run, *arguments):
    """The line with which the command refuses."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith('\r')]
    assert lines[-1].startswith('error: ') and 'Traceback' not in ''.join(lines)
    return lines[-1]
