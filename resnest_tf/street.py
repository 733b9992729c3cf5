"""What stands and moves in a drawn street. Classes share their colours (houses, cars, poles and
clothes; asphalt, slabs and overcast sky), so that shape and place must be learned.
"""

import numpy as np

from resnest_tf import cityscapes
from resnest_tf.scene import GREYS, Scene

FAR = 70.0  # metres to the end of the street
EGO, STATIC = 1, 4  # label ids that are not trained: the car with the camera, and what stands about
ROAD, SIDEWALK, BUILDING, POLE, VEGETATION, SKY, PERSON, CAR = (
    int(cityscapes.LABEL_IDS[cityscapes.CLASSES.index(name)])
    for name in ('road', 'sidewalk', 'building', 'pole', 'vegetation', 'sky', 'person', 'car')
)
# Colours are BGR.
_DARK_AND_BRIGHT = [(40, 40, 45), (225, 228, 230)]
_COLOURS = [(50, 50, 160), (150, 90, 50), (130, 170, 190), (70, 100, 150), (170, 150, 110)]
WALLS = GREYS + _DARK_AND_BRIGHT + _COLOURS
PAINTS = WALLS + [(60, 110, 60)]
SLABS = [(150, 150, 150), (120, 125, 130), (130, 150, 165), (110, 118, 140), (95, 95, 98)]
ASPHALTS = [(85, 82, 80), (105, 102, 100), (125, 122, 120), (95, 105, 115)]
PANES = [(90, 75, 60), (45, 45, 45), (200, 190, 175), (120, 180, 215), (160, 150, 140)]
GLASS = [(60, 55, 50), (110, 100, 90), (170, 165, 160)]
LAMPS = [(210, 235, 240), (40, 40, 190)]
LEAVES = [(40, 95, 60), (50, 120, 85), (35, 75, 45), (55, 110, 110)]
BARKS = [(45, 60, 80), (60, 70, 80), (80, 90, 95)]
SKINS = [(140, 170, 215), (110, 140, 190), (60, 85, 125)]
BLACK, GREY, WHITE = np.full(3, 28), np.full(3, 120), np.full(3, 215)


# ---- what stands still ---------------------------------------------------------------------------


def sky(scene: Scene) -> None:
    scene.ids[:] = SKY
    gradient = np.linspace(scene.uniform(0.65, 0.9), 1.05, scene.height)[:, None, None]
    scene.image[:] = np.minimum(gradient * scene.sky, 255)
    for _ in range(scene.random.randint(6)):  # clouds
        x, y, tone = scene.uniform(-40, 40), scene.uniform(5, 30), scene.tint(GREYS[3:], 25)
        for _ in range(4):
            centre = x + scene.uniform(-6, 6), y + scene.uniform(-1, 1), FAR
            scene.blob(*centre, (scene.uniform(2, 7), scene.uniform(1, 3)), tone, SKY)


def end(scene: Scene) -> None:
    """Closes the street, so that the ground nowhere meets the sky."""
    x, trees = -90.0, scene.uniform(0, 1.6)
    while x < 90:
        width, height = scene.uniform(6, 20), scene.uniform(5, 16)
        if scene.chance(trees):
            radii = (width, height * 0.7)
            scene.blob(x + width / 2, 0, FAR, radii, scene.tint(LEAVES, 12), VEGETATION)
        else:
            scene.front((x, x + width), (0, height), FAR, scene.tint(WALLS, 15), BUILDING)
        x += width


def ground(scene: Scene) -> None:
    left, right = scene.kerbs[-1], scene.kerbs[1]
    slab, asphalt = scene.tint(SLABS, 14), scene.tint(ASPHALTS, 14)
    white = scene.tint([(215, 215, 215)], 20)
    scene.floor((-300, 300), (1, FAR), slab, SIDEWALK)
    for x in np.arange(left - 12, right + 12, scene.uniform(1, 2)):
        scene.floor((x, x + 0.06), (2, 30), slab * 0.85, SIDEWALK)
    kerb = slab * (scene.uniform(0.55, 0.75) if scene.chance(0.5) else scene.uniform(1.25, 1.45))
    scene.floor((left - 0.3, right + 0.3), (1, FAR), kerb, SIDEWALK)
    scene.floor((left, right), (1, FAR), asphalt, ROAD)
    for _ in range(scene.random.randint(4)):  # patches of repair
        x, z = scene.uniform(left, right - 2), scene.uniform(4, 25)
        across, depth = (x, x + scene.uniform(0.5, 2)), (z, z + scene.uniform(1, 6))
        scene.floor(across, depth, asphalt * scene.uniform(0.8, 1.15), ROAD)
    middle = (left + right) / 2 + scene.uniform(-0.5, 0.5)
    for z in np.arange(scene.uniform(2, 8), FAR - 3, 6):
        scene.floor((middle - 0.08, middle + 0.08), (z, z + 3), white, ROAD)
    for x in (left + 0.4, right - 0.4) if scene.chance(0.5) else ():
        scene.floor((x - 0.06, x + 0.06), (1, FAR), white, ROAD)
    if scene.chance(0.3):  # a zebra crossing
        z = scene.uniform(7, 16)
        for x in np.arange(left + 0.3, right - 0.5, 1):
            scene.floor((x, x + 0.5), (z, z + 2.5), white, ROAD)


def houses(scene: Scene, side: int) -> None:
    light = {side: 0.75, -side: 1.15, 0: 1.0}[scene.sun]
    edge = scene.kerbs[side] + side * scene.uniform(4, 8)
    z, row = scene.uniform(2, 6), []
    while z < FAR - 5:
        row.append((z, min(z + scene.uniform(6, 16), FAR)))
        z = row[-1][1] + (0 if scene.chance(0.6) else scene.uniform(3, 14))
    for near, far in reversed(row):
        x, height = edge + side * scene.uniform(0, 1.5), scene.uniform(3.5, 10)
        wall, pane = scene.tint(WALLS, 18), scene.tint(PANES, 15)
        gable = wall * scene.uniform(0.8, 1.0)
        scene.front((x, x + side * 14), (0, height), near, gable, BUILDING)
        scene.side(x, (0, height), (near, far), wall * light, BUILDING)
        scene.side(x, (height - 0.4, height), (near, far), wall * light * 0.7, BUILDING)
        wide, tall, step = scene.uniform(0.8, 1.4), scene.uniform(1.1, 1.7), scene.uniform(2, 3)
        for y in np.arange(1, height - 2, 2.9):  # windows
            for z in np.arange(near + 0.8, far - wide, step):
                tone = pane * scene.uniform(0.75, 1.2)
                scene.side(x, (y, y + tall), (z, z + wide), tone, BUILDING)
            for reach in np.arange(1.2, 12, step) if near < 40 else ():
                across = (x + side * reach, x + side * (reach + wide))
                scene.front(across, (y, y + tall), near, pane * 0.9, BUILDING)


def tree(scene: Scene, x: float, z: float) -> None:
    foliage, size, trunk = scene.tint(LEAVES, 14), scene.uniform(1.1, 2.0), scene.uniform(1.6, 2.6)
    if scene.chance(0.25):  # a bush
        size, trunk = size * 0.6, 0.2
    top = trunk + size
    across = (x - 0.25, x + 0.25, x + 0.15, x - 0.15)
    scene.front(across, (0, 0, top, top), z, scene.tint(BARKS, 10), VEGETATION)
    for i in range(16):
        radius, shift = size * scene.uniform(0.35, 0.6), size * scene.uniform(-0.6, 0.6)
        rise, tone = size * scene.uniform(0.3, 1.4), foliage * (0.7 + 0.035 * i)
        scene.blob(x + shift, trunk + rise, z, (radius, radius * 0.85), tone, VEGETATION)


def pole(scene: Scene, x: float, z: float) -> None:
    half = max(0.2, 0.0145 * z)  # 8 pixels at least
    height, colour = scene.uniform(4, 6), scene.tint(WALLS[:6], 12)
    if scene.chance(0.5):  # a lamp over the road
        across = (x, x - np.sign(x) * scene.uniform(1, 2))
        scene.front(across, (height - 1.6 * half, height), z, colour, POLE)
    scene.front((x - half, x + half), (0, height), z, colour, POLE)
    scene.front((x, x + half), (0, height), z, colour * 0.8, POLE)


def litter_bin(scene: Scene, x: float, z: float) -> None:
    colour = scene.tint(PAINTS, 10)
    scene.front((x - 0.4, x + 0.4), (0, 0.95), z, colour, STATIC)
    scene.front((x - 0.45, x + 0.45), (0.9, 1.05), z, colour * 0.7, STATIC)


# ---- what moves ----------------------------------------------------------------------------------


def person(scene: Scene, x: float, z: float) -> None:
    tall, stride = scene.uniform(1.6, 1.95), scene.uniform(-0.2, 0.2)
    coat, trousers = scene.tint(PAINTS, 14), scene.tint(PAINTS[:9], 12)
    hip, neck = 0.48 * tall, 0.84 * tall
    chest = neck - 0.12
    leg, arm = (0, 0, hip, hip), (neck, neck, hip, hip)
    left, right = -0.27 * (1 + stride), 0.27 * (1 + stride)  # hands
    scene.shade((x - 0.4, x + 0.4), (z - 0.15, z + 0.15), 0.6)
    for across, up, tone in (
        ((-stride - 0.14, -stride + 0.14, 0.22, -0.22), leg, trousers * 0.8),
        ((stride - 0.14, stride + 0.14, 0.22, -0.22), leg, trousers * 1.0),
        (
            (-0.25, 0.25, 0.3, 0.22, -0.22, -0.3),
            (hip - 0.1, hip - 0.1, chest, neck, neck, chest),
            coat,
        ),
        ((-0.27 - 0.08, -0.27 + 0.08, left + 0.08, left - 0.08), arm, coat * 0.85),
        ((0.27 - 0.08, 0.27 + 0.08, right + 0.08, right - 0.08), arm, coat * 0.85),
    ):
        scene.front(x + np.array(across), up, z, tone, PERSON)
    scene.blob(x, 0.92 * tall, z, (0.15, 0.16), scene.tint(SKINS, 10), PERSON)
    scene.blob(x, 0.955 * tall, z, (0.15, 0.1), scene.tint(BARKS + GREYS[:2], 10), PERSON)


def car(scene: Scene, x: float, z: float) -> None:
    """From behind or before, with the side that the camera sees."""
    paint, glass = scene.tint(PAINTS, 15), scene.tint(GLASS, 10)
    half, long = scene.uniform(0.82, 0.95), scene.uniform(3.7, 4.8)
    waist, roof = scene.uniform(0.85, 1.0), scene.uniform(1.4, 1.75)
    lamp = np.array(LAMPS[scene.random.randint(2)])
    scene.shade((x - half - 0.15, x + half + 0.15), (z - 0.3, z + long + 0.3), 0.45)
    if abs(x) > half:
        _flank(scene, x, z, half, long, waist, roof, paint, glass)
    cabin, low, high = (waist, waist, roof, roof), waist + 0.05, roof - 0.1
    for across, up, tone in (  # in half widths
        ((-0.72 - 0.16, -0.72 + 0.16), (0, 0.4), BLACK),  # wheels
        ((0.72 - 0.16, 0.72 + 0.16), (0, 0.4), BLACK),
        ((-0.96, 0.96, 0.72, -0.72), cabin, paint * 0.95),
        ((-0.8, 0.8, 0.64, -0.64), (low, low, high, high), glass),
        ((-1, 1), (0.25, waist), paint),
        ((-1, 1), (0.22, 0.42), paint * 0.55),  # bumper
        ((-0.3, 0.3), (0.48, 0.62), WHITE),  # number plate
        ((-0.8 - 0.17, -0.8 + 0.17), (0.62, 0.8), lamp),
        ((0.8 - 0.17, 0.8 + 0.17), (0.62, 0.8), lamp),
    ):
        scene.front(x + half * np.array(across), up, z, tone, CAR)


def _flank(scene: Scene, x, z, half, long, waist, roof, paint, glass) -> None:
    """Its body, cabin, windows and wheels."""
    edge, inner = x - np.sign(x) * half, x - np.sign(x) * half * 0.85
    body = paint * (0.7 if scene.sun == np.sign(x) else 0.87)
    scene.side(edge, (0.3, waist), (z, z + long), body, CAR)
    depth = z + long * np.array([0.05, 0.8, 0.6, 0.2])
    scene.side([edge, edge, inner, inner], (waist, waist, roof, roof), depth, body, CAR)
    for first, last in ((0.17, 0.38), (0.42, 0.66)):
        depth = z + long * np.array([first - 0.02, last + 0.02, last - 0.05, first + 0.05])
        scene.side(edge, (waist, waist, roof - 0.12, roof - 0.12), depth, glass * 0.9, CAR)
    angle = np.linspace(0, 2 * np.pi, 14)
    for axle in (0.2, 0.8):
        for radius, tone in ((0.36, BLACK), (0.2, GREY)):
            up, depth = 0.36 + radius * np.sin(angle), z + long * axle + radius * np.cos(angle)
            scene.side(edge, up, depth, tone, CAR)


def bonnet(scene: Scene) -> None:
    """Of the car with the camera, at the lower edge."""
    angle, rise = np.linspace(np.pi, 2 * np.pi, 20), scene.uniform(0.05, 0.11) * scene.height
    across, down = scene.width * (0.5 + 0.55 * np.cos(angle)), scene.height + rise * np.sin(angle)
    scene.fill(np.stack([across, down], axis=1), scene.tint(GREYS[:3], 12), EGO)


# ---- the whole -----------------------------------------------------------------------------------


def draw(scene: Scene) -> None:
    """Draws a street."""
    sky(scene)
    end(scene)
    ground(scene)
    things = []  # (z, draw_object, x)
    for side, kerb in scene.kerbs.items():
        houses(scene, side)
        if scene.sun == side:
            across = sorted((kerb + side * 5, kerb - side * scene.uniform(-1, 4)))
            scene.shade(across, (1, FAR), scene.uniform(0.5, 0.75))
        if scene.chance(0.45):  # parked cars
            places = np.arange(scene.uniform(8, 14), 28, scene.uniform(6, 9))
            things += [(z, car, kerb - side * 1.1) for z in places if scene.chance(0.6)]
        for z in np.arange(scene.uniform(8, 14), 36, scene.uniform(9, 14)):
            draw_object = tree if z > 25 or scene.chance(0.5) else pole
            things.append((z, draw_object, kerb + side * scene.uniform(0.6, 1.2)))
        for _ in range(scene.random.randint(1, 4)):
            z = scene.uniform(9, 14)
            things.append((z, person, kerb + side * scene.uniform(0.4, 2)))
        if scene.chance(0.3):
            z = scene.uniform(8, 15)
            things.append((z, litter_bin, kerb + side * scene.uniform(0.8, 2)))
        if scene.chance(0.6):
            things.append((scene.uniform(11, 28), car, kerb * 0.4))
    if scene.chance(0.3):  # someone crosses, before the cars
        z, limits = scene.uniform(8, 10), (scene.kerbs[-1] + 1.5, scene.kerbs[1] - 1.5)
        things.append((z, person, scene.uniform(*limits)))
    for z, draw_object, x in sorted(things, key=lambda thing: -thing[0]):
        draw_object(scene, x, z)
    bonnet(scene)
