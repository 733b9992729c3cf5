"""Damage to contents, chosen by a random.Random: bytes, values of JSON or YAML, whole files."""

import copy
import json
import shutil

import yaml

ODD = [None, True, False, 0, -1, 1, 2, 7, 1.5, -0.0, 1e-300, 1e300, 10**30, -(10**30), 2**63]
ODD += [float('nan'), float('inf'), '', ' ', 'x', '0', '-1', 'nan', '1e-4', '.', '/', '../x']
ODD += ['a\0b', 'a\nb', '\ud800', 'ä' * 300, [], [[]], ['1.0'], [1, 'a'], [None], {}, {'a': None}]
ODD += [{'file': 1}, '9' * 400, '127.0.0.1', 'train', 'completed', 'float32', 'None', 'True']


def changed_bytes(content, random):
    """Bytes with some of them changed, cut, doubled, turned round or zeroed, or the end cut off."""
    content = bytearray(content)
    for _ in range(random.randint(1, 4)):
        at, count = random.randint(0, len(content)), random.choice([1, 1, 4, 16, 40])
        part = bytes(content[at : at + count])
        content[at : at + count] = random.choice(
            [
                bytes(random.randrange(256) for _ in part),
                bytes(byte ^ 1 << random.randrange(8) for byte in part),
                b'',
                part * 2,
                part[::-1],
                bytes(len(part)),
            ]
        )
    if random.random() < 0.2:
        del content[random.randint(0, len(content)) :]
    return bytes(content)


def _places(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield path + (key,)
        if isinstance(item, (dict, list)):
            yield from _places(item, path + (key,))


def changed_value(value, random):
    """A JSON value in which something is replaced by an odd value, removed or repeated."""
    value = copy.deepcopy(value)
    for _ in range(random.choice([1, 1, 2])):
        places = list(_places(value)) if isinstance(value, (dict, list)) else []
        if not places or random.random() < 0.03:
            return copy.deepcopy(random.choice(ODD))
        *path, key = random.choice(places)
        container = value
        for step in path:
            container = container[step]
        change = random.random()
        if change < 0.15:
            del container[key]
        elif change < 0.25 and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[key] = copy.deepcopy(random.choice(ODD))
    return value


def damage_file(path, random):
    """Changes a file of JSON or YAML by value or by byte, any other by byte; or puts something else
    in its place. Returns what was done.
    """
    kind = random.random()
    if kind < 0.04:
        path.unlink()
        return '%s removed' % path.name
    if kind < 0.08:
        path.write_bytes(b'')
        return '%s empty' % path.name
    if kind < 0.12:
        path.unlink()
        path.mkdir()
        return '%s is a folder' % path.name
    if kind < 0.14:
        path.unlink()
        path.symlink_to(path.name)
        return '%s is a link to itself' % path.name
    if kind < 0.16:
        path.write_bytes(
            random.choice([b'[' * 100000, b'{"a":' * 100000, b'\xff\xfe', b'\0' * 999])
        )
        return '%s is nonsense' % path.name
    if path.suffix in ('.json', '.yaml', '.jsonl') and kind < 0.7:
        _change_text(path, random)
        return '%s has other values' % path.name
    path.write_bytes(changed_bytes(path.read_bytes(), random))
    return '%s has other bytes' % path.name


def _change_text(path, random):
    text = path.read_text()
    if path.suffix == '.yaml':
        path.write_text(yaml.safe_dump(changed_value(yaml.safe_load(text), random)))
    elif path.suffix == '.json':
        path.write_text(json.dumps(changed_value(json.loads(text), random)))
    else:
        rows = [json.loads(line) for line in text.splitlines()]
        for _ in range(random.randint(1, 3)):
            index = random.randrange(len(rows))
            rows[index] = changed_value(rows[index], random)
        path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def fresh(source, target):
    """A new copy of a folder, with hard links where a file is only ever replaced."""
    if target.exists() or target.is_symlink():
        shutil.rmtree(str(target))
    shutil.copytree(str(source), str(target), copy_function=shutil.copyfile)
    return target


def odd_place(folder, random):
    """A path at which nothing can be written, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / 'file'
    file.write_text('a file')
    full = folder / 'full'
    full.mkdir(exist_ok=True)
    (full / 'mine').write_text('precious')
    return random.choice(
        [
            (file, 'a file stands there'),
            (file / 'below', 'below a file'),
            (folder / ('x' * 300), 'a name that is too long'),
            (folder / '/'.join(['y' * 200] * 25), 'a path that is too long'),
            ('/proc/campaign', 'a file system without room for files'),
            (full, 'a folder that holds something'),
            (folder / 'a\nb', 'a name with a line break'),
            (folder / 'run #2 [x]', 'a name that is a pattern'),
        ]
    )
