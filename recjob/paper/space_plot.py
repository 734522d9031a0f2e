"""Figure 8 as a picture: outfits drawn as what they are, where they lie in the space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from recjob.catalog.catalog import PADDING
from recjob.paper.plots import FAINT, INK, drawing
from recjob.paper.space_layout import (
    CANVAS,
    FALSE_NEGATIVE,
    MARGIN,
    NEGATIVE,
    POSITIVE,
    TEST_POSITIVE,
    Layout,
)
from recjob.training.data import TrainingData

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UInt8Array = NDArray[np.uint8]

USER_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of Okabe and Ito's palette, apart for the colour-blind; more users could not be told apart."""

DPI: Final = 300
POINT: Final = DPI / 72
"""Pixels of a typographic point, in which matplotlib measures lines."""
LEGEND: Final = 230
"""Pixels of the strip below the space."""
GAP: Final = 5
"""White pixels inside a rectangle and between its pictures, and around it."""
WHITE: Final = 244
"""A pixel whose three channels reach this is background; JPEG leaves noise in white."""
BORDERS: Final = {NEGATIVE: 3.0, POSITIVE: 8.0, FALSE_NEGATIVE: 15.0, TEST_POSITIVE: 13.0}
"""Pixels of the border of each kind."""
INNER_BORDER: Final = 5.0
"""Pixels of the black line inside the border of a FALSE_NEGATIVE."""
DASHES: Final = (0, (2.0, 1.0))
"""Of a TEST_POSITIVE's border, in its widths."""
CROSS: Final = 92.0
"""Pixels of a user's X."""
KEY: Final = 84.0
"""Pixels of a square in the legend."""
KEY_GAP: Final = 32.0
"""Pixels between it and its text."""

_KEYS: Final = {
    POSITIVE: "liked in the training part\n(in the colour of the user)",
    NEGATIVE: "random negative",
    FALSE_NEGATIVE: "false negative: d < 0, nearer than\nthe user's positives are on average",
    TEST_POSITIVE: "false negative that the user likes\nindeed: from the held-out test part",
}


def plot_space(path: Path, layout: Layout, data: TrainingData, names: Sequence[str]) -> None:
    """Write the figure.

    Args:
        path: the PNG to write.
        layout: what is where.
        data: whose pictures are drawn, at the resolution of its packed pixels.
        names: `(K,)` the users' ids.

    Raises UserError where matplotlib is missing.
    """
    width, height = CANVAS[0], CANVAS[1] + LEGEND
    with drawing(path, width / DPI, height / DPI, DPI) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        # Larger kinds are less important: they are drawn first and lie below.
        order = np.argsort(-layout.kind, kind="stable")
        for level, row in enumerate(order):
            _outfit(axes, layout, int(row), data, 2.0 + level)
        for place, (x, y) in enumerate(layout.users):
            _user(axes, float(x), float(y), USER_COLOURS[place], names[place], 2.0 + len(order))
        _legend(axes, layout)
        axes.set_xlim(0, width)
        axes.set_ylim(-LEGEND, CANVAS[1])


def outfit_picture(pictures: Sequence[UInt8Array], side: int) -> UInt8Array:
    """`(side, side, 3)` one square of an outfit's pictures `(S, S, 3)`, each whole, on white.

    They stand in columns that are filled in turn: of three, the first over the third, and the
    second beside them.
    """
    n_columns = int(np.ceil(np.sqrt(len(pictures))))
    canvas = Image.new("RGB", (side, side), "white")
    width = (side - GAP * (n_columns + 1)) // n_columns
    for column in range(n_columns):
        inside = pictures[column::n_columns]
        height = (side - GAP * (len(inside) + 1)) // max(len(inside), 1)
        for row, pixels in enumerate(inside):
            garment = Image.fromarray(np.ascontiguousarray(without_border(pixels)))
            scale = min(width / garment.width, height / garment.height)
            size = (max(1, int(garment.width * scale)), max(1, int(garment.height * scale)))
            left = GAP + column * (width + GAP) + (width - size[0]) // 2
            top = GAP + row * (height + GAP) + (height - size[1]) // 2
            canvas.paste(garment.resize(size, Image.Resampling.LANCZOS), (left, top))
    return np.asarray(canvas)


def without_border(picture: UInt8Array) -> UInt8Array:
    """A picture `(S, S, 3)` cut to its garment; one that is all white as it is."""
    garment = picture.min(axis=2) < WHITE
    rows, columns = np.flatnonzero(garment.any(axis=1)), np.flatnonzero(garment.any(axis=0))
    if not rows.size:
        return picture
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _outfit(axes: Axes, layout: Layout, row: int, data: TrainingData, zorder: float) -> None:
    kind = int(layout.kind[row])
    inset = GAP + BORDERS[kind]
    side = max(1, round(layout.boxes[row] - 2 * inset))
    left, bottom = (round(value - side / 2) for value in layout.centres[row])
    items = layout.items[row]
    pictures = [data.pixels[data.picture_rows[item]] for item in items[items != PADDING]]
    axes.imshow(
        outfit_picture(pictures, side),
        extent=(left, left + side, bottom, bottom + side),
        interpolation="nearest",
        aspect="auto",
        zorder=zorder,
    )
    _frame(axes, left, bottom, side, kind, USER_COLOURS[layout.user[row]], zorder + 0.5)


def _frame(
    axes: Axes, left: float, bottom: float, side: float, kind: int, colour: str, zorder: float
) -> None:
    """The border around a picture; kinds can be told from each other in grey too."""
    width = BORDERS[kind]
    if kind == TEST_POSITIVE:
        _border(axes, left, bottom, side, 0, width, "white", zorder)
        _border(axes, left, bottom, side, 0, width, colour, zorder, DASHES)
    elif kind == FALSE_NEGATIVE:
        _border(axes, left, bottom, side, INNER_BORDER, width - INNER_BORDER, colour, zorder)
        _border(axes, left, bottom, side, 0, INNER_BORDER, "black", zorder)
    else:
        edge = INK if kind == NEGATIVE else colour
        _border(axes, left, bottom, side, 0, width, edge, zorder)


def _border(
    axes: Axes,
    left: float,
    bottom: float,
    side: float,
    away: float,
    width: float,
    colour: str,
    zorder: float,
    style: str | tuple[int, tuple[float, float]] = "solid",
) -> None:
    """A line `width` pixels wide that begins `away` pixels outside a square."""
    from matplotlib.patches import Rectangle

    grown = away + width / 2
    axes.add_patch(
        Rectangle(
            (left - grown, bottom - grown),
            side + 2 * grown,
            side + 2 * grown,
            fill=False,
            edgecolor=colour,
            linewidth=width / POINT,
            linestyle=style,
            joinstyle="miter",
            capstyle="butt",
            zorder=zorder,
        )
    )


def _user(
    axes: Axes, x: float, y: float, colour: str, name: str, zorder: float, size: float = CROSS
) -> None:
    from matplotlib.patheffects import withStroke

    for edge, width, extra in (("white", 40.0, 14.0), (colour, 24.0, 0.0)):
        axes.plot(
            x,
            y,
            "x",
            color=edge,
            markersize=(size + extra) / POINT,
            markeredgewidth=width / POINT,
            zorder=zorder,
        )
    axes.text(
        x,
        y - size * 0.62,
        name,
        color=colour,
        fontsize=8,
        fontweight="bold",
        ha="center",
        va="top",
        path_effects=[withStroke(linewidth=3, foreground="white")],
        zorder=zorder + 1,
    )


def _legend(axes: Axes, layout: Layout) -> None:
    """One row under the space: an X, and a border of each kind that is shown, spread evenly."""
    axes.axhline(0, color=FAINT, linewidth=1)
    shown = [kind for kind in _KEYS if (layout.kind == kind).any()]
    labels = ["user", *(_KEYS[kind] for kind in shown)]
    y = -LEGEND / 2
    texts = [axes.text(0, y, label, fontsize=10, va="center", linespacing=1.25) for label in labels]
    widths = [KEY + KEY_GAP + text.get_window_extent().width for text in texts]
    between = (CANVAS[0] - 2 * MARGIN - sum(widths)) / len(texts)
    left = MARGIN + between / 2
    for text, width, kind in zip(texts, widths, [None, *shown], strict=True):
        if kind is None:
            size = CROSS * 0.8 / POINT
            axes.plot(left + KEY / 2, y, "x", color=INK, markersize=size, markeredgewidth=5)
        else:
            _frame(axes, left, y - KEY / 2, KEY, kind, USER_COLOURS[0], 2)
        text.set_x(left + KEY + KEY_GAP)
        left += width + between
