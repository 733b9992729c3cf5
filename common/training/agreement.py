"""Every rank proves at the start that it trains the same thing as rank 0."""

import dataclasses
import hashlib
import pathlib
import sys
from inspect import getfile
from typing import Any, Dict

import cv2

from common import host
from common.configuration import config
from common.devices.base import Device
from common.devices.exchange import gather_objects
from common.errors import UserError


def agree(device: Device, cfg: Any, data: Dict[str, str], start: Dict[str, Any]) -> Dict[str, Any]:
    """Compares configuration, data and code of all ranks; returns what rank 0 says of the start.

    data: fingerprints of the splits. start: JSON; on rank 0 it may hold 'error', the text of a
    UserError that every rank then raises.
    """
    fields, software = dataclasses.asdict(cfg).items(), host.describe()
    facts = {key: repr(value) for key, value in fields if key not in config.LOCAL}
    facts.update({'data: ' + split: digest for split, digest in data.items()})
    facts.update({key: software[key] for key in ('python', 'tensorflow', 'numpy')})
    facts.update(code=_code_digest(type(cfg)), opencv=cv2.getVersionString())
    reports = gather_objects(device, {'facts': facts, 'start': start})
    if reports[0]['start'].get('error'):
        if device.is_chief:
            raise UserError(reports[0]['start']['error'])
        sys.exit(2)  # rank 0 says it
    for rank, report in enumerate(reports):
        for key, value in reports[0]['facts'].items():
            if report['facts'].get(key) != value:
                raise UserError(
                    'rank %d has %s %s, rank 0 has %s; start every rank with the same command,'
                    ' recipe, data and code' % (rank, key, report['facts'].get(key), value)
                )
    return reports[0]['start']


def _code_digest(config_class: type) -> str:
    """Returns a digest of the Python files of `common` and of the model's folder."""
    digest = hashlib.sha256()
    for folder in (pathlib.Path(__file__).parents[1], pathlib.Path(getfile(config_class)).parent):
        for path in sorted(folder.rglob('*.py')):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
