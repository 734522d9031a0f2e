"""Drawing cloth: outlines in the unit square, woven patterns, shading and seams, with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]
Segment = tuple[float, float] | tuple[float, float, float, float]
"""To a point, straight; or around a control point to a point (quadratic Bezier)."""
Floats = NDArray[np.float32]

PATTERNS = ("plain", "striped", "pinstriped", "checked", "dotted", "flowers", "stars")
"""What a cloth may show."""

SUPERSAMPLING = 3
"""Garments are drawn so many times larger and then reduced, which smooths their edges."""

_WHITE = (255, 255, 255)
_CURVE_STEPS = 10
# Light comes from the upper left; folds and rims differ from the flat cloth by these shares.
_FOLDS = 0.10
_RIM = 0.30
_LIGHT = 0.10
_RIM_WIDTH = 0.045
_OUTLINE_WIDTH = 0.007


def path(start: Point, *segments: Segment) -> list[Point]:
    """Points along straight and curved segments."""
    points = [start]
    for segment in segments:
        if len(segment) == 2:
            points.append(segment)
            continue
        (x0, y0), (cx, cy, x1, y1) = points[-1], segment
        for step in range(1, _CURVE_STEPS + 1):
            t = step / _CURVE_STEPS
            a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
            points.append((a * x0 + b * cx + c * x1, a * y0 + b * cy + c * y1))
    return points


def mirrored(points: Sequence[Point]) -> list[Point]:
    """The same points on the other side of the middle axis."""
    return [(1 - x, y) for x, y in points]


def whole(half: Sequence[Point]) -> list[Point]:
    """The closed outline whose right half is given, from the middle to the middle."""
    return [*half, *reversed(mirrored(half))]


def shade(colour: Colour, factor: float) -> Colour:
    """A darker (factor below 1) or lighter colour; lighter moves towards white."""
    if factor <= 1:
        red, green, blue = (round(part * factor) for part in colour)
    else:
        red, green, blue = (round(part + (255 - part) * (factor - 1)) for part in colour)
    return red, green, blue


def contrast(colour: Colour) -> Colour:
    """A colour for buttons and seams that is seen on the cloth."""
    return shade(colour, 0.62) if sum(colour) > 300 else shade(colour, 1.45)


@dataclass(frozen=True)
class Cut:
    """What varies between garments of a kind; each about 0, within -1 and 1."""

    length: float
    width: float
    detail: float


class Canvas:
    """A white square on which pieces of cloth are laid one over the other."""

    def __init__(self, size: int, cloth: Image.Image, colour: Colour, folds: Floats) -> None:
        self.side = size * SUPERSAMPLING
        self._size = size
        self._cloth = cloth
        self._folds = folds
        self.colour = colour
        self._image = Image.new("RGB", (self.side, self.side), _WHITE)
        self._draw = ImageDraw.Draw(self._image)

    def finish(self, flipped: bool = False) -> Image.Image:
        """The picture at its final size."""
        image = self._image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else self._image
        return image.resize((self._size, self._size), Image.Resampling.LANCZOS, reducing_gap=3.0)

    def cloth(self, outline: Sequence[Point], colour: Colour | None = None) -> None:
        """A piece of the garment's own cloth, or of a plain `colour`, rounded by light."""
        points = self._points(outline)
        box = self._box(points)
        width, height = box[2] - box[0], box[3] - box[1]
        if width <= 0 or height <= 0:
            return
        mask = Image.new("L", (width, height), 0)
        ImageDraw.Draw(mask).polygon([(x - box[0], y - box[1]) for x, y in points], fill=255)
        piece = self._cloth.crop(box) if colour is None else Image.new("RGB", mask.size, colour)
        lit = np.asarray(piece, dtype=np.float32) * self._light(mask, box)[..., None]
        self._image.paste(Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)), box, mask)
        self.line([*outline, outline[0]], shade(colour or self.colour, 0.55), _OUTLINE_WIDTH)

    def flat(self, outline: Sequence[Point], colour: Colour) -> None:
        """A small piece without shading: a button, a sole, a lining."""
        self._draw.polygon(self._points(outline), fill=colour)

    def line(self, points: Sequence[Point], colour: Colour, width: float = 0.006) -> None:
        """A seam, a lace or a fold; `width` is a share of the side."""
        pixels = max(1, round(width * self.side))
        self._draw.line(self._points(points), fill=colour, width=pixels, joint="curve")

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """A button or an eyelet."""
        x, y = centre[0] * self.side, centre[1] * self.side
        r = radius * self.side
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def _light(self, mask: Image.Image, box: tuple[int, int, int, int]) -> Floats:
        # A blurred mask falls off towards the rim: cloth that turns away from the eye. A quarter of
        # the pixels is enough for something so smooth.
        small = mask.reduce(4)
        blurred = small.filter(ImageFilter.GaussianBlur(_RIM_WIDTH * self.side / 4))
        rim = np.asarray(blurred.resize(mask.size, Image.Resampling.BILINEAR), dtype=np.float32)
        inside = np.clip((rim / 255 - 0.5) * 2, 0, 1)
        across = np.linspace(1, -1, mask.width, dtype=np.float32)[None, :]
        folds = self._folds[box[1] : box[3], box[0] : box[2]]
        return np.asarray(1 - _RIM * (1 - inside) + _LIGHT * across * 0.5 + _FOLDS * folds)

    def _points(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.side, y * self.side) for x, y in points]

    def _box(self, points: Sequence[Point]) -> tuple[int, int, int, int]:
        xs, ys = zip(*points, strict=True)
        low = (max(0, int(min(xs))), max(0, int(min(ys))))
        high = (min(self.side, int(max(xs)) + 2), min(self.side, int(max(ys)) + 2))
        return (*low, *high)


def fold_field(side: int, rng: np.random.Generator) -> Floats:
    """(side, side) soft folds about 0, mostly vertical, with the grain of the cloth."""
    coarse = rng.normal(0, 1, (4, 9)).astype(np.float32)
    folds = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 0.25, (side // 2, side // 2)).astype(np.float32)
    fine = np.repeat(np.repeat(grain, 2, axis=0), 2, axis=1)
    fine = np.pad(fine, ((0, side - fine.shape[0]), (0, side - fine.shape[1])))
    return np.asarray(folds, dtype=np.float32) * 0.6 + fine


def weave(
    pattern: str, colour: Colour, second: Colour, size: int, scale: float, rng: np.random.Generator
) -> Image.Image:
    """A square of cloth; `scale` is the repeat of the pattern as a share of the side."""
    side = size * SUPERSAMPLING
    ground = np.array(colour, dtype=np.float32)
    figure = np.array(second, dtype=np.float32)
    if pattern in ("flowers", "stars"):
        return _print(pattern, colour, second, side, scale, rng)
    share = np.zeros((side, side), dtype=np.float32)
    x = (np.arange(side, dtype=np.float32) / side + rng.random(dtype=np.float32))[None, :]
    y = (np.arange(side, dtype=np.float32) / side + rng.random(dtype=np.float32))[:, None]
    if pattern == "striped":
        share += np.mod(y / scale, 1) < 0.42
    elif pattern == "pinstriped":
        share += np.mod(x / (0.6 * scale), 1) < 0.25
    elif pattern == "checked":
        bands = (np.mod(x / scale, 1) < 0.5) * 0.5 + (np.mod(y / scale, 1) < 0.5) * 0.5
        share += bands
    elif pattern == "dotted":
        row = np.floor(y / scale)
        dx = np.mod(x / scale + 0.5 * np.mod(row, 2), 1) - 0.5
        dy = np.mod(y / scale, 1) - 0.5
        share += dx**2 + dy**2 < 0.27**2
    mixed = ground + share[..., None] * (figure - ground)
    return Image.fromarray(mixed.astype(np.uint8))


def _print(
    pattern: str, colour: Colour, second: Colour, side: int, scale: float, rng: np.random.Generator
) -> Image.Image:
    image = Image.new("RGB", (side, side), colour)
    draw = ImageDraw.Draw(image)
    step = 1.25 * scale * side
    count = int(side / step) + 2
    turns = rng.random((count, count)) * 2 * np.pi
    shifts = (rng.random((count, count, 2)) - 0.5) * 0.3
    heart = shade(second, 0.55) if sum(second) > sum(colour) else shade(second, 1.5)
    for row in range(count):
        for column in range(count):
            x = (column + 0.5 * (row % 2) + shifts[row, column, 0]) * step
            y = (row + shifts[row, column, 1]) * step
            turn = turns[row, column]
            if pattern == "stars":
                angles = turn + np.arange(10) * np.pi / 5
                radii = np.where(np.arange(10) % 2, 0.16, 0.38) * step
                points = zip(x + radii * np.cos(angles), y + radii * np.sin(angles), strict=True)
                draw.polygon([(float(px), float(py)) for px, py in points], fill=second)
                continue
            petal = 0.17 * step
            for angle in turn + np.arange(5) * 2 * np.pi / 5:
                px, py = x + 0.22 * step * np.cos(angle), y + 0.22 * step * np.sin(angle)
                draw.ellipse((px - petal, py - petal, px + petal, py + petal), fill=second)
            middle = 0.11 * step
            draw.ellipse((x - middle, y - middle, x + middle, y + middle), fill=heart)
    return image
