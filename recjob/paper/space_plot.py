"""Figure 8 as a picture: outfits drawn as what they are, where they lie in the space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recjob.catalog.catalog import PADDING, BoolArray, Int64Array
from recjob.paper.plots import INK, drawing
from recjob.paper.space import Space
from recjob.training.data import TrainingData

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UInt8Array = NDArray[np.uint8]
Float64Array = NDArray[np.float64]

USER_COLOURS: Final = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
)
"""Of Okabe and Ito's palette, apart for the colour-blind; more users cannot be told apart."""

CANVAS: Final = (3600, 2520)
"""Pixels of the space itself, printed at `DPI`: 12 by 8.4 inches."""
LEGEND: Final = 250
"""Pixels of the strip below it."""
DPI: Final = 300
SIDE: Final = 132
"""Pixels of an outfit's rectangle: garments can be told, and 240 outfits have room."""
FALSE_SIDE: Final = 168
"""Of a false negative's: what the figure is about."""
PADDING_PIXELS: Final = 5
"""White inside a rectangle, and between its pictures."""
MOST_OVERLAP: Final = 0.3
"""An outfit that would share more of its rectangle with a more important one becomes a dot."""
WHITE: Final = 244
"""A pixel whose three channels reach this is background; JPEG leaves noise in white."""

# Kinds of outfits, the most important first: who is drawn on top, and who becomes a dot.
TEST_POSITIVE, FALSE_NEGATIVE, POSITIVE, NEGATIVE = range(4)


@dataclass(frozen=True)
class Marks:
    """What is drawn of each outfit: the negatives first, then the positives."""

    kind: Int64Array
    """(n,) TEST_POSITIVE, FALSE_NEGATIVE, POSITIVE or NEGATIVE."""
    user: Int64Array
    """(n,) place of the user whose colour it has; of a NEGATIVE without meaning."""
    centres: Float64Array
    """(n, 2) pixels from the lower left corner."""
    user_centres: Float64Array
    """(K, 2) likewise."""
    sides: Int64Array
    """(n,) pixels."""
    drawn: BoolArray
    """(n,) False: only a dot."""


def marks(space: Space) -> Marks:
    """Kinds, users and places of everything in the space.

    A negative is a false one where d < 0 for some shown user, and has the colour of the user with
    the smallest d; it is a test positive where it is one of a user for whom d < 0.
    """
    d = space.negatives.d
    hits = space.negatives.in_test & (d < 0)
    kind = np.full(d.shape[1], NEGATIVE)
    kind[(d < 0).any(axis=0)] = FALSE_NEGATIVE
    kind[hits.any(axis=0)] = TEST_POSITIVE
    user = np.where(hits.any(axis=0), np.where(hits, d, np.inf).argmin(axis=0), d.argmin(axis=0))
    kind = np.concatenate([kind, np.full(len(space.owner), POSITIVE)])
    sides = np.where(kind <= FALSE_NEGATIVE, FALSE_SIDE, SIDE)
    centres = on_canvas(np.concatenate([space.user_xy, space.negative_xy, space.positive_xy]))
    n_users = len(space.users)
    outfits = centres[n_users:]
    drawn = without_overlap(outfits, sides, np.argsort(kind, kind="stable"))
    return Marks(
        kind, np.concatenate([user, space.owner]), outfits, centres[:n_users], sides, drawn
    )


def on_canvas(xy: Float64Array) -> Float64Array:
    """Places `(n, 2)` in pixels: each axis fills the canvas, less half a large rectangle.

    The axes of t-SNE have no unit, so each may be stretched by itself.
    """
    low, high = xy.min(axis=0), xy.max(axis=0)
    extent = np.where(high > low, high - low, 1)
    margin = FALSE_SIDE / 2 + 4 * PADDING_PIXELS
    result: Float64Array = margin + (xy - low) / extent * (np.array(CANVAS) - 2 * margin)
    return result


def without_overlap(centres: Float64Array, sides: Int64Array, order: Int64Array) -> BoolArray:
    """`(n,)` which squares are kept, tried in `order (n,)`.

    One that has more than `MOST_OVERLAP` of its area in common with a square that is kept already
    is not.
    """
    kept = np.zeros(len(centres), np.bool_)
    for row in order:  # a few hundred rectangles, each against the ones kept before
        reach = (sides[row] + sides[kept]) / 2
        apart = np.abs(centres[kept] - centres[row])
        common = np.clip(reach[:, None] - apart, 0, sides[row]).prod(axis=1)
        kept[row] = not (common > MOST_OVERLAP * sides[row] ** 2).any()
    return kept


def outfit_picture(pictures: Sequence[UInt8Array], side: int) -> UInt8Array:
    """`(side, side, 3)` one square of an outfit's pictures `(S, S, 3)`, each whole, on white.

    The garments stand in columns that are filled evenly; the broadest share a column, the tallest
    stand alone where there is room (trousers beside a top over shoes).
    """
    garments = sorted(
        (without_border(picture) for picture in pictures),
        key=lambda garment: garment.shape[0] / garment.shape[1],
    )
    n_columns = int(np.ceil(np.sqrt(len(garments))))
    heights = [len(part) for part in np.array_split(np.arange(len(garments)), n_columns)]
    canvas = Image.new("RGB", (side, side), "white")
    width = (side - PADDING_PIXELS * (n_columns + 1)) // n_columns
    place = 0
    for column, count in enumerate(heights):
        height = (side - PADDING_PIXELS * (count + 1)) // count
        for row in range(count):
            picture = Image.fromarray(np.ascontiguousarray(garments[place]))
            scale = min(width / picture.width, height / picture.height)
            size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
            left = PADDING_PIXELS + column * (width + PADDING_PIXELS) + (width - size[0]) // 2
            top = PADDING_PIXELS + row * (height + PADDING_PIXELS) + (height - size[1]) // 2
            canvas.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, top))
            place += 1
    return np.asarray(canvas)


def without_border(picture: UInt8Array) -> UInt8Array:
    """A picture `(S, S, 3)` cut to its garment; one that is all white as it is."""
    garment = (picture < WHITE).any(axis=2)
    rows, columns = np.flatnonzero(garment.any(axis=1)), np.flatnonzero(garment.any(axis=0))
    if not rows.size:
        return picture
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def plot_space(path: Path, space: Space, data: TrainingData) -> None:
    """Write the figure; pictures come from `data`. Raises UserError without matplotlib."""
    found = marks(space)
    items = np.concatenate([space.negatives.items, space.positives])
    width, height = CANVAS[0], CANVAS[1] + LEGEND
    with drawing(path, width / DPI, height / DPI, DPI) as figure:
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(-LEGEND, CANVAS[1]))
        axes.set_axis_off()
        for row in np.flatnonzero(~found.drawn):
            _dot(axes, found, int(row))
        # The least important first, so that false negatives lie on top.
        order = np.flatnonzero(found.drawn)
        for number, row in enumerate(order[np.argsort(-found.kind[order], kind="stable")]):
            outfit = items[row]
            pictures = [
                np.asarray(data.pixels[data.picture_rows[item]])
                for item in outfit[outfit != PADDING]
            ]
            _outfit(axes, found, int(row), pictures, 2.0 + number)
        for place, (x, y) in enumerate(found.user_centres):
            _user(axes, x, y, USER_COLOURS[place], 2.0 + len(items))
        axes.set_xlim(0, width)
        axes.set_ylim(-LEGEND, CANVAS[1])
        _legend(axes, [data.catalog.user_ids[user] for user in space.users], found)


def _outfit(
    axes: Axes, found: Marks, row: int, pictures: Sequence[UInt8Array], zorder: float
) -> None:
    side = int(found.sides[row])
    left, bottom = (round(value - side / 2) for value in found.centres[row])
    axes.imshow(
        outfit_picture(pictures, side),
        extent=(left, left + side, bottom, bottom + side),
        interpolation="nearest",
        aspect="auto",
        zorder=zorder,
    )
    _frame(axes, left, bottom, side, int(found.kind[row]), int(found.user[row]), zorder)


def _frame(
    axes: Axes, left: float, bottom: float, side: float, kind: int, user: int, zorder: float
) -> None:
    """The border of a rectangle; its kind can be told without colours too."""
    from matplotlib.patches import Rectangle

    colour = USER_COLOURS[user]

    def border(
        grown: float, edge: str, width: float, style: str | tuple[int, tuple[float, float]]
    ) -> None:
        axes.add_patch(
            Rectangle(
                (left - grown, bottom - grown),
                side + 2 * grown,
                side + 2 * grown,
                fill=False,
                edgecolor=edge,
                linewidth=width,
                linestyle=style,
                joinstyle="miter",
                zorder=zorder + 0.5,
            )
        )

    if kind == POSITIVE:
        border(0, colour, 1.8, "solid")
    elif kind == NEGATIVE:
        border(0, INK, 0.7, "solid")
    elif kind == FALSE_NEGATIVE:
        border(7, colour, 3.0, "solid")
        border(0, "black", 1.2, "solid")
    else:
        border(5, "white", 3.6, "solid")
        border(5, colour, 3.6, (0, (2.2, 1.1)))


def _dot(axes: Axes, found: Marks, row: int) -> None:
    colour = INK if found.kind[row] == NEGATIVE else USER_COLOURS[found.user[row]]
    x, y = found.centres[row]
    axes.plot(x, y, "o", color=colour, markersize=3.2, markeredgewidth=0, alpha=0.75, zorder=1.5)


def _user(axes: Axes, x: float, y: float, colour: str, zorder: float, size: float = 19) -> None:
    for edge, width, length in (("white", 9.0, size + 3), (colour, 5.0, size)):
        axes.plot(x, y, "x", color=edge, markersize=length, markeredgewidth=width, zorder=zorder)


def _legend(axes: Axes, names: Sequence[str], found: Marks) -> None:
    axes.axhline(0, color="#bbbbbb", linewidth=0.8)
