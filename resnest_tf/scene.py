"""A canvas in perspective: a picture and its labels, drawn together, what is farther first."""

from typing import Sequence, Tuple

import cv2
import numpy as np

# Colours are BGR.
GREYS = [(60, 60, 60), (95, 95, 92), (130, 128, 125), (165, 165, 162), (205, 205, 205)]
SKIES = [(235, 190, 140), (225, 205, 180), (205, 200, 195), (180, 172, 168), (190, 205, 230)]


def rectangle(first: Sequence, second: Sequence) -> Tuple[np.ndarray, np.ndarray]:
    """Returns the corners of a rectangle, given its limits along each axis."""
    return np.array(first)[[0, 1, 1, 0]], np.array(second)[[0, 0, 1, 1]]


class Scene:
    """An empty street at some hour of some day. Metres: x right of the camera, y above the ground,
    z ahead.

    Attributes: image uint8 [height, width, 3] BGR; ids uint8 [height, width], label ids; kerbs {-1:
    x of the left one, 1: of the right one}; sun: the side that is in the shade, 0: neither.
    """

    def __init__(self, random: np.random.RandomState, height: int, width: int):
        self.random, self.height, self.width = random, height, width
        self.image = np.zeros((height, width, 3), np.uint8)
        self.ids = np.zeros((height, width), np.uint8)
        self.focal, self.eye = 2.2 * height, self.uniform(1.7, 2.2)
        self.centre = width * self.uniform(0.4, 0.6)
        self.horizon = height * self.uniform(0.38, 0.48)
        self.kerbs = {-1: -self.uniform(3, 6), 1: self.uniform(2, 3.5)}
        self.sight = self.uniform(120, 400)  # metres at which haze leaves a third of a colour
        self.sky = self.tint(SKIES, 12)
        self.sun = self.random.randint(-1, 2)

    # ---- chance

    def uniform(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return self.random.uniform() < probability

    def tint(self, colours: Sequence, spread: float) -> np.ndarray:
        """Returns one of the colours, up to `spread` brighter and half of that bluer, greener or
        redder, or less.
        """
        colour = np.array(colours[self.random.randint(len(colours))])
        brighter = self.uniform(-spread, spread)
        return colour + brighter + self.random.uniform(-spread / 2, spread / 2, 3)

    # ---- strokes

    def project(self, x, y, z) -> np.ndarray:
        """Returns the pixels [n, 2] of points of the world, numbers or sequences."""
        x, y, z = np.broadcast_arrays(x, y, z)
        across = self.centre + self.focal * x / z
        down = self.horizon + self.focal * (self.eye - y) / z
        return np.stack([across, down], axis=1)

    def fill(self, points: np.ndarray, colour: np.ndarray, label: int, z: float = 0) -> None:
        """Fills a polygon of [n, 2] pixels, z metres away."""
        clear = np.exp(-z / self.sight)
        corners = [np.rint(points).astype(np.int32)]
        hazy = np.minimum(colour * clear + self.sky * (1 - clear), 255)
        cv2.fillPoly(self.image, corners, hazy.tolist())
        cv2.fillPoly(self.ids, corners, label)

    def front(self, x, y, z: float, colour, label: int) -> None:
        """Draws a polygon that faces the camera; two x and two y give a rectangle."""
        x, y = (x, y) if len(x) > 2 else rectangle(x, y)
        self.fill(self.project(x, y, z), colour, label, z)

    def side(self, x, y, z, colour, label: int) -> None:
        """Draws a polygon along the street; two y and two z give a rectangle."""
        z, y = (z, y) if len(z) > 2 else rectangle(z, y)
        self.fill(self.project(x, y, z), colour, label, min(z))

    def floor(self, x, z, colour, label: int) -> None:
        """Draws a rectangle on the ground."""
        across, depth = rectangle(x, z)
        self.fill(self.project(across, 0, depth), colour, label, z[0])

    def blob(self, x: float, y: float, z: float, radii: Sequence, colour, label: int) -> None:
        """Draws an ellipse that faces the camera."""
        angle = np.linspace(0, 2 * np.pi, 16)
        self.front(x + radii[0] * np.cos(angle), y + radii[1] * np.sin(angle), z, colour, label)

    def shade(self, x, z, factor: float) -> None:
        """Darkens a rectangle on the ground; labels stay."""
        mask = np.zeros_like(self.ids)
        across, depth = rectangle(x, z)
        cv2.fillPoly(mask, [np.rint(self.project(across, 0, depth)).astype(np.int32)], 1)
        self.image[mask > 0] = self.image[mask > 0] * factor

    # ---- the camera

    def photograph(self) -> np.ndarray:
        """Returns the picture with exposure, colour cast, uneven light, blur and noise."""
        light = cv2.resize(
            self.random.normal(1, 0.07, (4, 8)).astype(np.float32),
            (self.width, self.height),
            interpolation=cv2.INTER_CUBIC,
        )
        slope = self.uniform(-0.15, 0.15)
        light = light * (1 + slope * np.linspace(-1, 1, self.width, dtype=np.float32))
        exposure = self.uniform(0.7, 1.15)
        gain = (exposure * self.random.uniform(0.92, 1.08, 3)).astype(np.float32)
        gamma = self.uniform(0.85, 1.2)
        image = 255 * (np.clip(self.image * light[:, :, None] * gain, 0, 255) / 255) ** gamma
        noise = self.uniform(2, 6) * self.random.normal(size=image.shape)
        blurred = cv2.GaussianBlur(image, (0, 0), self.uniform(0.4, 0.8))
        return np.rint(np.clip(blurred + noise, 0, 255)).astype(np.uint8)
