"""What hangs in the demo's shop: kinds, colours and patterns of its items, and their pictures."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recjob.catalog.catalog import Float32Array, Int32Array
from recjob.catalog.garments import KINDS
from recjob.catalog.garments.canvas import (
    PATTERNS,
    SUPERSAMPLING,
    Canvas,
    Colour,
    Cut,
    fold_field,
    weave,
)

PALETTE: dict[str, Colour] = {
    "black": (35, 34, 38),
    "charcoal": (75, 77, 82),
    "grey": (150, 152, 156),
    "white": (244, 243, 240),
    "cream": (238, 226, 200),
    "beige": (205, 178, 140),
    "brown": (122, 82, 52),
    "burgundy": (120, 28, 48),
    "red": (204, 40, 44),
    "coral": (240, 112, 92),
    "orange": (238, 134, 40),
    "mustard": (214, 164, 44),
    "yellow": (246, 214, 76),
    "lime": (160, 200, 70),
    "green": (52, 140, 78),
    "olive": (110, 114, 60),
    "teal": (30, 130, 130),
    "turquoise": (80, 190, 190),
    "sky": (130, 185, 230),
    "blue": (44, 94, 190),
    "navy": (30, 42, 92),
    "purple": (110, 66, 150),
    "lilac": (184, 156, 214),
    "pink": (240, 160, 190),
    "magenta": (205, 50, 130),
}
COLOURS = tuple(PALETTE)
CATEGORIES = tuple(sorted(KINDS))
KIND_NAMES = tuple(kind for category in CATEGORIES for kind in KINDS[category])
KIND_CATEGORY = np.array(
    [number for number, category in enumerate(CATEGORIES) for _ in KINDS[category]], dtype=np.int32
)
"""(n_kinds,) index into CATEGORIES."""
OUTER = np.isin(KIND_NAMES, ("jacket", "coat"))
"""(n_kinds,) kinds that are worn over another top."""

# A shop sells more tops than shoes; the order is that of CATEGORIES.
_CATEGORY_SHARES = {"top": 0.5, "bottom": 0.3, "shoes": 0.2}
_NEUTRALS = ("black", "charcoal", "grey", "white", "cream", "beige", "brown", "navy")
_DENIM = ("black", "charcoal", "grey", "white", "sky", "blue", "navy")
_NEUTRAL_SHARE = {"top": 0.25, "bottom": 0.45, "shoes": 0.5}
_PLAIN_SHARE = {"top": 0.45, "bottom": 0.6, "shoes": 1.0}
# Cloths that are cut plain: denim, and coats with little flowers would look odd.
_ALWAYS_PLAIN = ("jeans",)
_WOVEN_ONLY = ("jacket", "coat", "trousers")
_WOVEN = ("striped", "pinstriped", "checked")
# How far a colour strays from its name: hue, saturation, value.
_JITTER = np.array([0.012, 0.06, 0.05])
# A pattern is seen when its two colours differ by this much in CIELAB.
_VISIBLE = 35.0
_REPEATS = (0.07, 0.12)


@dataclass(frozen=True)
class DrawnItems:
    """Attributes of the items, (n_items,) each unless said otherwise."""

    kind: Int32Array
    """Index into KIND_NAMES."""
    colour: Int32Array
    """Index into COLOURS, the name of the main colour."""
    pattern: Int32Array
    """Index into PATTERNS."""
    rgb: NDArray[np.uint8]
    """(n_items, 2, 3) main and second colour."""
    lab: Float32Array
    """(n_items, 3) main colour in CIELAB."""
    seed: int

    @property
    def category(self) -> Int32Array:
        """(n_items,) index into CATEGORIES."""
        return KIND_CATEGORY[self.kind]


def choose_items(count: int, seed: int) -> DrawnItems:
    """Items in no order, each kind about as often as the others of its category."""
    rng = np.random.default_rng([seed, 0])
    shares = np.array([_CATEGORY_SHARES[category] for category in CATEGORIES])
    sizes = np.bincount(KIND_CATEGORY)
    weights = (shares / sizes)[KIND_CATEGORY]
    # Each kind gets its share and the largest remainders fill up, so that none is missing.
    exact = weights * count
    numbers = np.floor(exact).astype(np.int64)
    numbers[np.argsort(numbers - exact, kind="stable")[: count - numbers.sum()]] += 1
    kind = rng.permutation(np.repeat(np.arange(len(KIND_NAMES)), numbers))
    colour = np.empty(count, dtype=np.int32)
    pattern = np.empty(count, dtype=np.int32)
    for number, name in enumerate(KIND_NAMES):
        rows = np.flatnonzero(kind == number)
        colour[rows] = rng.choice(len(COLOURS), rows.size, p=_colour_shares(number, name))
        pattern[rows] = rng.choice(len(PATTERNS), rows.size, p=_pattern_shares(number, name))
    main = _jittered(colour, rng)
    second = _jittered(_second(colour, rng), rng)
    rgb = np.stack([main, second], axis=1)
    return DrawnItems(kind.astype(np.int32), colour, pattern, rgb, lab(main), seed)


def picture(items: DrawnItems, item: int, size: int) -> Image.Image:
    """The picture of one item, `size` pixels wide and high, on white."""
    rng = np.random.default_rng([items.seed, 1, item])
    kind = KIND_NAMES[items.kind[item]]
    main, second = (_colour(part) for part in items.rgb[item])
    cloth = weave(
        PATTERNS[items.pattern[item]], main, second, size, float(rng.uniform(*_REPEATS)), rng
    )
    canvas = Canvas(size, cloth, main, fold_field(size * SUPERSAMPLING, rng))
    cut = Cut(*rng.uniform(-1, 1, 3).tolist())
    KINDS[CATEGORIES[items.category[item]]][kind](canvas, cut)
    return canvas.finish(flipped=bool(rng.random() < 0.5))


def lab(rgb: NDArray[np.uint8]) -> Float32Array:
    """(n, 3) sRGB as CIELAB (D65), in which distances are about as large as they look."""
    linear = rgb / 255.0
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    matrix = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = linear @ matrix.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1).astype(np.float32)


def palette_lab() -> Float32Array:
    """(n_colours, 3) the named colours in CIELAB."""
    return lab(np.array(list(PALETTE.values()), dtype=np.uint8))


def _colour_shares(kind: int, name: str) -> NDArray[np.float64]:
    if name == "jeans":
        favoured, share = np.isin(COLOURS, _DENIM), 1.0
    else:
        favoured = np.isin(COLOURS, _NEUTRALS)
        share = _NEUTRAL_SHARE[CATEGORIES[KIND_CATEGORY[kind]]]
    others = (1 - share) / (~favoured).sum()
    return np.asarray(np.where(favoured, share / favoured.sum(), others))


def _pattern_shares(kind: int, name: str) -> NDArray[np.float64]:
    plain = 1.0 if name in _ALWAYS_PLAIN else _PLAIN_SHARE[CATEGORIES[KIND_CATEGORY[kind]]]
    allowed = np.isin(PATTERNS, _WOVEN) if name in _WOVEN_ONLY else np.ones(len(PATTERNS), bool)
    allowed[PATTERNS.index("plain")] = False
    shares = np.asarray((1 - plain) * allowed / allowed.sum())
    shares[PATTERNS.index("plain")] = plain
    return shares


def _second(colour: Int32Array, rng: np.random.Generator) -> Int32Array:
    """(n,) for each colour another that is seen on it."""
    table = palette_lab()
    distance = np.linalg.norm(table[:, None] - table, axis=-1)
    weights = (distance > _VISIBLE).astype(np.float64)
    weights[:, np.isin(COLOURS, ("white", "cream", "black", "navy"))] *= 4
    cumulative = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)[colour]
    chosen = (rng.random((colour.size, 1)) > cumulative).sum(axis=1)
    return np.asarray(chosen.clip(max=len(COLOURS) - 1), dtype=np.int32)


def _jittered(colour: Int32Array, rng: np.random.Generator) -> NDArray[np.uint8]:
    table = np.array([colorsys.rgb_to_hsv(*(p / 255 for p in c)) for c in PALETTE.values()])
    hsv = table[colour] + rng.uniform(-1, 1, (colour.size, 3)) * _JITTER
    hue, saturation, value = hsv[:, 0] % 1, hsv[:, 1].clip(0, 1), hsv[:, 2].clip(0, 1)
    # HSV to RGB in one formula for red, green and blue.
    turn = (np.array([5.0, 3.0, 1.0]) + hue[:, None] * 6) % 6
    dip = np.minimum(turn, 4 - turn).clip(0, 1)
    return np.asarray(
        np.rint(255 * value[:, None] * (1 - saturation[:, None] * dip)).astype(np.uint8)
    )


def _colour(rgb: NDArray[np.uint8]) -> Colour:
    red, green, blue = (int(part) for part in rgb)
    return red, green, blue
