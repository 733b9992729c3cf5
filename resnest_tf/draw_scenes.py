"""Drawn street scenes in the folders, files and label ids of Cityscapes: a data set that needs no
download and trains in minutes.

    python -m resnest_tf.draw_scenes --output data/scenes
    python -m resnest_tf.prepare_cityscapes --source data/scenes --output data/scenes_records
    --allow_partial

A street in perspective with houses, trees, poles, cars and people - eight of the 19 classes - in
the light of some hour of some day; the bonnet and litter bins are not scored. Classes share their
colours (houses, cars, poles and clothes of any grey, brown, green or blue; asphalt, slabs and
overcast sky), so that shape and place must be learned. A scene is a function of (seed, split,
number).
"""

import argparse
import pathlib
import sys
from typing import List, Optional, Sequence, Tuple

import cv2
import numpy as np

if not __package__:  # run as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from common import files  # noqa: E402
from common.errors import UserError, entry_point  # noqa: E402
from resnest_tf import cityscapes  # noqa: E402

CITIES = {'train': 'drawnham', 'val': 'sketchford'}
FAR = 70.0  # metres to the end of the street
LIMITS = {'train': 10**6, 'val': 10**6, 'height': 4096, 'width': 8192, 'seed': 2**32 - 1}
EGO, STATIC = 1, 4  # label ids that are not trained: the car with the camera, and what stands about
ROAD, SIDEWALK, BUILDING, POLE, VEGETATION, SKY, PERSON, CAR = (
    int(cityscapes.LABEL_IDS[cityscapes.CLASSES.index(name)])
    for name in ('road', 'sidewalk', 'building', 'pole', 'vegetation', 'sky', 'person', 'car')
)
# Colours are BGR.
GREYS = [(60, 60, 60), (95, 95, 92), (130, 128, 125), (165, 165, 162), (205, 205, 205)]
WALLS = GREYS + [
    (40, 40, 45),
    (225, 228, 230),
    (50, 50, 160),
    (150, 90, 50),
    (130, 170, 190),
    (70, 100, 150),
    (170, 150, 110),
]
PAINTS = WALLS + [(60, 110, 60)]
SKIES = [(235, 190, 140), (225, 205, 180), (205, 200, 195), (180, 172, 168), (190, 205, 230)]
SLABS = [(150, 150, 150), (120, 125, 130), (130, 150, 165), (110, 118, 140), (95, 95, 98)]
ASPHALTS = [(85, 82, 80), (105, 102, 100), (125, 122, 120), (95, 105, 115)]
PANES = [(90, 75, 60), (45, 45, 45), (200, 190, 175), (120, 180, 215), (160, 150, 140)]
LEAVES = [(40, 95, 60), (50, 120, 85), (35, 75, 45), (55, 110, 110)]
BARKS = [(45, 60, 80), (60, 70, 80), (80, 90, 95)]
SKINS = [(140, 170, 215), (110, 140, 190), (60, 85, 125)]


class Scene:
    """A picture and its labels, drawn together, what is farther first. Metres: x right of the
    camera, y above the ground, z ahead.
    """

    def __init__(self, random: np.random.RandomState, height: int, width: int):
        self.random, self.height, self.width = random, height, width
        self.image, self.ids = (
            np.zeros((height, width, 3), np.uint8),
            np.zeros((height, width), np.uint8),
        )
        self.focal, self.eye = 2.2 * height, self.uniform(1.7, 2.2)
        self.centre, self.horizon = (
            width * self.uniform(0.4, 0.6),
            height * self.uniform(0.38, 0.48),
        )
        self.kerbs = {
            -1: -self.uniform(3, 6),
            1: self.uniform(2, 3.5),
        }  # of the left and the right side
        self.sight = self.uniform(120, 400)  # metres at which haze leaves a third of a colour
        self.sky = self.tint(SKIES, 12)
        self.sun = self.random.randint(-1, 2)  # the side that is in the shade; 0: neither

    # ---- chance

    def uniform(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return self.random.uniform() < probability

    def tint(self, colours: Sequence, spread: float) -> np.ndarray:
        """One of the colours, up to `spread` brighter or darker and half of that bluer, greener or
        redder.
        """
        return (
            np.array(colours[self.random.randint(len(colours))])
            + self.uniform(-spread, spread)
            + self.random.uniform(-spread / 2, spread / 2, 3)
        )

    # ---- strokes

    def project(self, x, y, z) -> np.ndarray:
        """Points of the world (numbers or sequences) -> [n, 2] pixels."""
        x, y, z = np.asarray(x, float), np.asarray(y, float), np.asarray(z, float)
        points = np.empty((max(x.size, y.size, z.size), 2))
        points[:, 0] = self.centre + self.focal * x / z
        points[:, 1] = self.horizon + self.focal * (self.eye - y) / z
        return points

    def fill(self, points: np.ndarray, colour: np.ndarray, label: int, z: float = 0) -> None:
        """A polygon of [n, 2] pixels, z metres away."""
        clear = np.exp(-z / self.sight)
        corners = [np.rint(points).astype(np.int32)]
        cv2.fillPoly(
            self.image, corners, np.minimum(colour * clear + self.sky * (1 - clear), 255).tolist()
        )
        cv2.fillPoly(self.ids, corners, label)

    def front(self, x, y, z: float, colour, label: int) -> None:
        """A polygon that faces the camera, of two x and two y a rectangle."""
        x, y = (x, y) if len(x) > 2 else (np.array(x)[[0, 1, 1, 0]], np.array(y)[[0, 0, 1, 1]])
        self.fill(self.project(x, y, z), colour, label, z)

    def side(self, x, y, z, colour, label: int) -> None:
        """A polygon along the street, of two y and two z a rectangle."""
        y, z = (y, z) if len(z) > 2 else (np.array(y)[[0, 0, 1, 1]], np.array(z)[[0, 1, 1, 0]])
        self.fill(self.project(x, y, z), colour, label, min(z))

    def floor(self, x, z, colour, label: int) -> None:
        """A rectangle on the ground."""
        self.fill(
            self.project(np.array(x)[[0, 1, 1, 0]], 0, np.array(z)[[0, 0, 1, 1]]),
            colour,
            label,
            z[0],
        )

    def blob(
        self, x: float, y: float, z: float, radii: Tuple[float, float], colour, label: int
    ) -> None:
        angle = np.linspace(0, 2 * np.pi, 16)
        self.front(x + radii[0] * np.cos(angle), y + radii[1] * np.sin(angle), z, colour, label)

    def shade(self, x, z, factor: float) -> None:
        """Darkens a rectangle on the ground; labels stay."""
        mask = np.zeros_like(self.ids)
        cv2.fillPoly(
            mask,
            [
                np.rint(
                    self.project(np.array(x)[[0, 1, 1, 0]], 0, np.array(z)[[0, 0, 1, 1]])
                ).astype(np.int32)
            ],
            1,
        )
        self.image[mask > 0] = self.image[mask > 0] * factor

    # ---- what stands still

    def heaven(self) -> None:
        self.ids[:] = SKY
        self.image[:] = np.minimum(
            np.linspace(self.uniform(0.65, 0.9), 1.05, self.height)[:, None, None] * self.sky, 255
        )
        for _ in range(self.random.randint(6)):
            x, y, tone = self.uniform(-40, 40), self.uniform(5, 30), self.tint(GREYS[3:], 25)
            for _ in range(4):
                self.blob(
                    x + self.uniform(-6, 6),
                    y + self.uniform(-1, 1),
                    FAR,
                    (self.uniform(2, 7), self.uniform(1, 3)),
                    tone,
                    SKY,
                )

    def end(self) -> None:
        """What closes the street, so that the ground nowhere meets the sky."""
        x, trees = -90.0, self.uniform(0, 1.6)
        while x < 90:
            width, height = self.uniform(6, 20), self.uniform(5, 16)
            if self.chance(trees):
                self.blob(
                    x + width / 2, 0, FAR, (width, height * 0.7), self.tint(LEAVES, 12), VEGETATION
                )
            else:
                self.front((x, x + width), (0, height), FAR, self.tint(WALLS, 15), BUILDING)
            x += width

    def ground(self) -> None:
        left, right = self.kerbs[-1], self.kerbs[1]
        slab, asphalt, white = (
            self.tint(SLABS, 14),
            self.tint(ASPHALTS, 14),
            self.tint([(215, 215, 215)], 20),
        )
        self.floor((-300, 300), (1, FAR), slab, SIDEWALK)
        for x in np.arange(left - 12, right + 12, self.uniform(1, 2)):
            self.floor((x, x + 0.06), (2, 30), slab * 0.85, SIDEWALK)
        stone = slab * (self.uniform(0.55, 0.75) if self.chance(0.5) else self.uniform(1.25, 1.45))
        self.floor((left - 0.3, right + 0.3), (1, FAR), stone, SIDEWALK)
        self.floor((left, right), (1, FAR), asphalt, ROAD)
        for _ in range(self.random.randint(4)):  # mended
            x, z = self.uniform(left, right - 2), self.uniform(4, 25)
            self.floor(
                (x, x + self.uniform(0.5, 2)),
                (z, z + self.uniform(1, 6)),
                asphalt * self.uniform(0.8, 1.15),
                ROAD,
            )
        middle = (left + right) / 2 + self.uniform(-0.5, 0.5)
        for z in np.arange(self.uniform(2, 8), FAR - 3, 6):
            self.floor((middle - 0.08, middle + 0.08), (z, z + 3), white, ROAD)
        for x in (left + 0.4, right - 0.4) if self.chance(0.5) else ():
            self.floor((x - 0.06, x + 0.06), (1, FAR), white, ROAD)
        if self.chance(0.3):  # a zebra crossing
            z = self.uniform(7, 16)
            for x in np.arange(left + 0.3, right - 0.5, 1):
                self.floor((x, x + 0.5), (z, z + 2.5), white, ROAD)

    def houses(self, side: int) -> None:
        light = {side: 0.75, -side: 1.15, 0: 1.0}[self.sun]
        edge, z, row = self.kerbs[side] + side * self.uniform(4, 8), self.uniform(2, 6), []
        while z < FAR - 5:
            row.append((z, min(z + self.uniform(6, 16), FAR)))
            z = row[-1][1] + (0 if self.chance(0.6) else self.uniform(3, 14))
        for near, far in reversed(row):
            x, height, wall, pane = (
                edge + side * self.uniform(0, 1.5),
                self.uniform(3.5, 10),
                self.tint(WALLS, 18),
                self.tint(PANES, 15),
            )
            self.front(
                (x, x + side * 14), (0, height), near, wall * self.uniform(0.8, 1.0), BUILDING
            )
            self.side(x, (0, height), (near, far), wall * light, BUILDING)
            self.side(x, (height - 0.4, height), (near, far), wall * light * 0.7, BUILDING)
            wide, tall, step = self.uniform(0.8, 1.4), self.uniform(1.1, 1.7), self.uniform(2, 3)
            for y in np.arange(1, height - 2, 2.9):
                for z in np.arange(near + 0.8, far - wide, step):
                    self.side(
                        x, (y, y + tall), (z, z + wide), pane * self.uniform(0.75, 1.2), BUILDING
                    )
                for reach in np.arange(1.2, 12, step) if near < 40 else ():
                    self.front(
                        (x + side * reach, x + side * (reach + wide)),
                        (y, y + tall),
                        near,
                        pane * 0.9,
                        BUILDING,
                    )

    def tree(self, x: float, z: float) -> None:
        leaf, size, trunk = self.tint(LEAVES, 14), self.uniform(1.1, 2.0), self.uniform(1.6, 2.6)
        if self.chance(0.25):  # a bush
            size, trunk = size * 0.6, 0.2
        self.front(
            (x - 0.25, x + 0.25, x + 0.15, x - 0.15),
            (0, 0, trunk + size, trunk + size),
            z,
            self.tint(BARKS, 10),
            VEGETATION,
        )
        for i in range(16):
            radius, shift, rise = (
                size * self.uniform(0.35, 0.6),
                size * self.uniform(-0.6, 0.6),
                size * self.uniform(0.3, 1.4),
            )
            self.blob(
                x + shift,
                trunk + rise,
                z,
                (radius, radius * 0.85),
                leaf * (0.7 + 0.035 * i),
                VEGETATION,
            )

    def pole(self, x: float, z: float) -> None:
        half, height, colour = (
            max(0.2, 0.0145 * z),
            self.uniform(4, 6),
            self.tint(WALLS[:6], 12),
        )  # 8 pixels at least
        if self.chance(0.5):  # a lamp over the road
            self.front(
                (x, x - np.sign(x) * self.uniform(1, 2)),
                (height - 1.6 * half, height),
                z,
                colour,
                POLE,
            )
        self.front((x - half, x + half), (0, height), z, colour, POLE)
        self.front((x, x + half), (0, height), z, colour * 0.8, POLE)

    def bin(self, x: float, z: float) -> None:
        colour = self.tint(PAINTS, 10)
        self.front((x - 0.4, x + 0.4), (0, 0.95), z, colour, STATIC)
        self.front((x - 0.45, x + 0.45), (0.9, 1.05), z, colour * 0.7, STATIC)

    # ---- what moves

    def person(self, x: float, z: float) -> None:
        tall, stride, coat = self.uniform(1.6, 1.95), self.uniform(-0.2, 0.2), self.tint(PAINTS, 14)
        hip, neck, trousers = 0.48 * tall, 0.84 * tall, self.tint(PAINTS[:9], 12)
        self.shade((x - 0.4, x + 0.4), (z - 0.15, z + 0.15), 0.6)
        for foot, tone in ((-stride, 0.8), (stride, 1.0)):
            self.front(
                x + np.array([foot - 0.14, foot + 0.14, 0.22, -0.22]),
                (0, 0, hip, hip),
                z,
                trousers * tone,
                PERSON,
            )
        self.front(
            x + np.array([-0.25, 0.25, 0.3, 0.22, -0.22, -0.3]),
            (hip - 0.1, hip - 0.1, neck - 0.12, neck, neck, neck - 0.12),
            z,
            coat,
            PERSON,
        )
        for shoulder in (-0.27, 0.27):
            hand = shoulder * (1 + stride)
            self.front(
                x + np.array([shoulder - 0.08, shoulder + 0.08, hand + 0.08, hand - 0.08]),
                (neck, neck, hip, hip),
                z,
                coat * 0.85,
                PERSON,
            )
        self.blob(x, 0.92 * tall, z, (0.15, 0.16), self.tint(SKINS, 10), PERSON)
        self.blob(x, 0.955 * tall, z, (0.15, 0.1), self.tint(BARKS + GREYS[:2], 10), PERSON)

    def car(self, x: float, z: float) -> None:
        """From behind or before, with the side that the camera sees."""
        paint, glass = (
            self.tint(PAINTS, 15),
            self.tint([(60, 55, 50), (110, 100, 90), (170, 165, 160)], 10),
        )
        half, long, waist, roof = (
            self.uniform(0.82, 0.95),
            self.uniform(3.7, 4.8),
            self.uniform(0.85, 1.0),
            self.uniform(1.4, 1.75),
        )
        lamp = np.array([(210, 235, 240), (40, 40, 190)][self.random.randint(2)])
        black, grey, angle = np.full(3, 28), np.full(3, 120), np.linspace(0, 2 * np.pi, 14)
        self.shade((x - half - 0.15, x + half + 0.15), (z - 0.3, z + long + 0.3), 0.45)
        if abs(x) > half:
            edge, inner, light = (
                x - np.sign(x) * half,
                x - np.sign(x) * half * 0.85,
                0.7 if self.sun == np.sign(x) else 0.87,
            )
            self.side(edge, (0.3, waist), (z, z + long), paint * light, CAR)
            self.side(
                [edge, edge, inner, inner],
                (waist, waist, roof, roof),
                z + long * np.array([0.05, 0.8, 0.6, 0.2]),
                paint * light,
                CAR,
            )
            for first, last in ((0.17, 0.38), (0.42, 0.66)):
                corners = z + long * np.array(
                    [first - 0.02, last + 0.02, last - 0.05, first + 0.05]
                )
                self.side(edge, (waist, waist, roof - 0.12, roof - 0.12), corners, glass * 0.9, CAR)
            for axle in (0.2, 0.8):
                for radius, tone in ((0.36, black), (0.2, grey)):
                    self.side(
                        edge,
                        0.36 + radius * np.sin(angle),
                        z + long * axle + radius * np.cos(angle),
                        tone,
                        CAR,
                    )
        for wheel in (-0.72, 0.72):
            self.front(x + half * np.array([wheel - 0.16, wheel + 0.16]), (0, 0.4), z, black, CAR)
        self.front(
            x + half * np.array([-0.96, 0.96, 0.72, -0.72]),
            (waist, waist, roof, roof),
            z,
            paint * 0.95,
            CAR,
        )
        self.front(
            x + half * np.array([-0.8, 0.8, 0.64, -0.64]),
            (waist + 0.05, waist + 0.05, roof - 0.1, roof - 0.1),
            z,
            glass,
            CAR,
        )
        for wide, low, high, tone in (
            (1, 0.25, waist, paint),
            (1, 0.22, 0.42, paint * 0.55),
            (0.3, 0.48, 0.62, np.full(3, 215)),
        ):
            self.front((x - wide * half, x + wide * half), (low, high), z, tone, CAR)
        for place in (-0.8, 0.8):
            self.front(x + half * np.array([place - 0.17, place + 0.17]), (0.62, 0.8), z, lamp, CAR)

    def bonnet(self) -> None:
        """Of the car with the camera, at the lower edge."""
        angle, rise = np.linspace(np.pi, 2 * np.pi, 20), self.uniform(0.05, 0.11) * self.height
        self.fill(
            np.stack(
                [self.width * (0.5 + 0.55 * np.cos(angle)), self.height + rise * np.sin(angle)],
                axis=1,
            ),
            self.tint(GREYS[:3], 12),
            EGO,
        )

    # ---- the whole

    def street(self) -> None:
        self.heaven()
        self.end()
        self.ground()
        things = []
        for side, kerb in self.kerbs.items():
            self.houses(side)
            if self.sun == side:
                self.shade(
                    sorted((kerb + side * 5, kerb - side * self.uniform(-1, 4))),
                    (1, FAR),
                    self.uniform(0.5, 0.75),
                )
            if self.chance(0.45):
                things += [
                    (z, self.car, kerb - side * 1.1)
                    for z in np.arange(self.uniform(8, 14), 28, self.uniform(6, 9))
                    if self.chance(0.6)
                ]
            things += [
                (
                    z,
                    self.tree if z > 25 or self.chance(0.5) else self.pole,
                    kerb + side * self.uniform(0.6, 1.2),
                )
                for z in np.arange(self.uniform(8, 14), 36, self.uniform(9, 14))
            ]
            things += [
                (self.uniform(9, 14), self.person, kerb + side * self.uniform(0.4, 2))
                for _ in range(self.random.randint(1, 4))
            ]
            things += (
                [(self.uniform(8, 15), self.bin, kerb + side * self.uniform(0.8, 2))]
                if self.chance(0.3)
                else []
            )
            things += [(self.uniform(11, 28), self.car, kerb * 0.4)] if self.chance(0.6) else []
        if self.chance(0.3):  # someone crosses, before the cars
            things.append(
                (
                    self.uniform(8, 10),
                    self.person,
                    self.uniform(self.kerbs[-1] + 1.5, self.kerbs[1] - 1.5),
                )
            )
        for z, draw_thing, x in sorted(things, key=lambda thing: -thing[0]):
            draw_thing(x, z)
        self.bonnet()

    def photograph(self) -> np.ndarray:
        """The picture as a camera gives it: exposure, colour cast, uneven light, blur and noise."""
        patches = cv2.resize(
            self.random.normal(1, 0.07, (4, 8)).astype(np.float32),
            (self.width, self.height),
            interpolation=cv2.INTER_CUBIC,
        )
        light = patches * (
            1 + self.uniform(-0.15, 0.15) * np.linspace(-1, 1, self.width, dtype=np.float32)
        )
        gain = (self.uniform(0.7, 1.15) * self.random.uniform(0.92, 1.08, 3)).astype(np.float32)
        image = 255 * (
            np.clip(self.image * light[:, :, None] * gain, 0, 255) / 255
        ) ** self.uniform(0.85, 1.2)
        noise = self.uniform(2, 6) * self.random.normal(size=image.shape)
        return np.rint(
            np.clip(cv2.GaussianBlur(image, (0, 0), self.uniform(0.4, 0.8)) + noise, 0, 255)
        ).astype(np.uint8)


def draw(
    seed: int, split: str, number: int, height: int, width: int
) -> Tuple[np.ndarray, np.ndarray]:
    """(image uint8 [height, width, 3] in BGR order, label ids uint8 [height, width]): the same for
    the same arguments.
    """
    scene = Scene(np.random.RandomState([seed, list(CITIES).index(split), number]), height, width)
    scene.street()
    return scene.photograph(), scene.ids


@entry_point
def main(arguments: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        prog='draw_scenes',
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--output',
        required=True,
        type=pathlib.Path,
        help='folder to make leftImg8bit/ and gtFine/ in',
    )
    parser.add_argument('--train', type=int, default=480, help='scenes to train on (default: 480)')
    parser.add_argument('--val', type=int, default=60, help='scenes to validate on (default: 60)')
    parser.add_argument('--height', type=int, default=128, help='in pixels (default: 128)')
    parser.add_argument('--width', type=int, default=256, help='in pixels (default: 256)')
    parser.add_argument(
        '--seed', type=int, default=1, help='another seed gives other scenes (default: 1)'
    )
    flags = parser.parse_args(arguments)
    for name, high in LIMITS.items():
        low = 32 if name in ('height', 'width') else 0
        if not low <= getattr(flags, name) <= high:
            raise UserError(
                '--%s: found %d, legal are %d to %d' % (name, getattr(flags, name), low, high)
            )
    if flags.output.exists() and (not flags.output.is_dir() or any(flags.output.iterdir())):
        raise UserError(
            '--output %s already exists and is not empty; remove it or name another folder'
            % flags.output
        )
    try:
        with files.atomic(flags.output) as folder:
            for split, city in CITIES.items():
                places = [
                    (folder / kind / split / city, ending)
                    for kind, ending in (
                        ('leftImg8bit', 'leftImg8bit'),
                        ('gtFine', 'gtFine_labelIds'),
                    )
                ]
                for place, _ in places:
                    place.mkdir(parents=True)
                for number in range(getattr(flags, split)):
                    for (place, ending), pixels in zip(
                        places, draw(flags.seed, split, number, flags.height, flags.width)
                    ):
                        (place / ('%s_000000_%06d_%s.png' % (city, number, ending))).write_bytes(
                            cv2.imencode('.png', pixels)[1].tobytes()
                        )
    except OSError as error:
        raise UserError('--output %s could not be written: %s' % (flags.output, error))
    sys.stderr.write(
        '%s: %d scenes to train on, %d to validate on\n' % (flags.output, flags.train, flags.val)
    )


if __name__ == '__main__':
    main()
