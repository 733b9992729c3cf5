"""Training on several devices, on paper: what a step exchanges in a ring and how long that takes.

Stragglers, the host and the network's other traffic are left out: the efficiency is an upper bound.
"""

import argparse
from typing import Any, List, Mapping, NamedTuple, Sequence

import numpy as np

from common.reporting.markdown import table

SERVER = 8  # devices in a server
BACKWARD = 2 / 3  # share of a step in which gradients appear


class Link(NamedTuple):
    """bandwidth: bytes/s in one direction for each device; latency: seconds for each message."""

    bandwidth: float
    latency: float


LINKS = {  # (within a server, between servers), by the data sheets
    'hccs+roce': (Link(30e9, 10e-6), Link(12.5e9, 20e-6)),  # Ascend 910: HCCS, 100 Gbit/s RoCE
    'pcie+roce': (Link(12e9, 15e-6), Link(12.5e9, 20e-6)),  # PCIe 3.0 x16
    'pcie+tcp': (Link(12e9, 15e-6), Link(0.31e9, 50e-6)),  # 8 devices share 25 Gbit/s Ethernet
}


class Prediction(NamedTuple):
    """One row: seconds of a step's parts, images/s of all devices, and of a perfect machine 1."""

    devices: int
    exchange: float
    exposed: float
    images_per_second: float
    efficiency: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--devices', type=_counts, default='8,16,64', help='scaling: numbers of devices'
    )
    rate = 'scaling: the throughput of one device'
    parser.add_argument('--images_per_second', type=float, default=0.0, help=rate)
    parser.add_argument('--links', choices=sorted(LINKS), default='hccs+roce', help='scaling')


def _counts(text: str) -> List[int]:
    """Reads numbers of devices, either in one server or in whole ones."""
    try:
        counts = [int(word) for word in text.split(',')]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1 or any(n > SERVER and n % SERVER for n in counts):
        raise argparse.ArgumentTypeError(
            'found %s, give numbers up to %d or multiples of it, such as 8,16,64' % (text, SERVER)
        )
    return counts


def ring_seconds(size: float, ranks: int, link: Link) -> float:
    """Seconds of an allreduce of `size` bytes in a ring: 2 (n-1) messages of size / n."""
    return 2 * (ranks - 1) * (size / ranks / link.bandwidth + link.latency)


def exchange_seconds(size: float, devices: int, links: Sequence[Link]) -> float:
    """Seconds of an allreduce: summed within each server, then each device's share between them."""
    server_devices = min(devices, SERVER)
    seconds = ring_seconds(size, server_devices, links[0])
    if devices > SERVER:
        seconds += ring_seconds(size / server_devices, devices // SERVER, links[1])
    return seconds


def predict(
    size: float, batch: int, speed: float, devices: int, links: Sequence[Link], messages: int = 0
) -> Prediction:
    """Predicts a step that exchanges `size` bytes of gradients in two halves: the first is hidden
    behind the second half of the backward pass, as far as that lasts.

    batch: images per device and step; speed: images/s of one device alone; messages: small ones
    that nothing hides, as of synchronised batch norm.
    """
    compute = batch / speed
    exchange = exchange_seconds(size, devices, links)
    hidden = min(exchange / 2, compute * BACKWARD / 2)
    exposed = exchange - hidden + messages * exchange_seconds(1024, devices, links)
    rate = devices * batch / (compute + exposed)
    return Prediction(devices, exchange, exposed, rate, compute / (compute + exposed))


def report(cfg: Any, variables: Mapping[str, Sequence[int]], args: argparse.Namespace) -> str:
    """Returns the predictions for a recipe as Markdown tables; variables: {name: shape} of its
    network.
    """
    trained = [shape for name, shape in variables.items() if 'moving_' not in name]
    size = 4 * sum(int(np.prod(shape)) for shape in trained)
    layers = sum(name.endswith('moving_mean') for name in variables)
    messages = 0 if cfg.sync_bn is False else 2 * layers  # one in each direction
    batch, pixels = cfg.batch_size * cfg.accumulate, int(np.prod(cfg.input_shape))
    rows: List[List[str]] = []
    for count in args.devices:
        speed, links = args.images_per_second, LINKS[args.links]
        prediction = predict(size, batch, speed, count, links, messages)
        fed = prediction.images_per_second * min(1, SERVER / count)
        rows.append(
            [
                '%d' % count,
                '%.2f ms' % (1e3 * prediction.exchange),
                '%.2f ms' % (1e3 * prediction.exposed),
                '%.0f' % prediction.images_per_second,
                '%.1f %%' % (100 * prediction.efficiency),
                '%.0f images/s, %.2f GB/s' % (fed, fed * pixels / 1e9),
            ]
        )
    header = ['devices', 'exchange', 'not hidden', 'images/s', 'efficiency', 'each host feeds']
    title = '%s: %.1f MB of gradients a step, %d images per device, %d messages of batch norm, %s.'
    text = title % (cfg.model, size / 1e6, batch, messages, args.links)
    bound = 'An upper bound: stragglers, the host and other traffic are left out.'
    return '%s\n\n%s\n\n%s' % (text, table('', header, rows), bound)
