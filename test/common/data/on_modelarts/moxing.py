"""A stand-in for moxing.file with the functions' real names and rules: a missing source raises,
copy_parallel takes folders, copy takes files, a listing has folders too. obs:// is $TEST_STORE.
"""

import os
import pathlib
import shutil
import time
import types

STORE = pathlib.Path(os.environ['TEST_STORE'])


class file:
    @staticmethod
    def _path(url):
        return STORE / url[len('obs://') :] if url.startswith('obs://') else pathlib.Path(url)

    @staticmethod
    def exists(url):
        return file._path(url).exists()

    @staticmethod
    def is_directory(url):
        return file._path(url).is_dir()

    @staticmethod
    def list_directory(url, recursive=False):
        top = file._path(url)
        paths = top.rglob('*') if recursive else top.iterdir()
        return [str(path.relative_to(top)) for path in paths]

    @staticmethod
    def stat(url):
        path = file._path(url)
        found = path.stat()
        return types.SimpleNamespace(
            length=found.st_size, mtime_nsec=found.st_mtime_ns, is_directory=path.is_dir()
        )

    @staticmethod
    def copy(source, target):
        assert file._path(source).is_file(), source
        with open(str(STORE / 'copies.txt'), 'a') as log:
            log.write('%s\n' % source)
        time.sleep(float(os.environ.get('TEST_SECONDS', '0')))
        file._path(target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file._path(source)), str(file._path(target)))

    @staticmethod
    def copy_parallel(source, target):
        assert file._path(source).is_dir(), source
        for path in sorted(file._path(source).rglob('*')):
            if path.is_file():
                place = file._path(target) / path.relative_to(file._path(source))
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(path), str(place))
