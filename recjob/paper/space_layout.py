"""Where Figure 8 draws what: kinds of outfits, places on the canvas, rectangles moved apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import Int32Array, Int64Array
from recjob.paper.space import Space

Float64Array = NDArray[np.float64]

CANVAS: Final = (3600, 2520)
"""Pixels of the space: 12 by 8.4 inches in print."""
MARGIN: Final = 40
"""Pixels at the edge where nothing is drawn."""
MOST_FILLED: Final = 0.54
"""Share of the canvas that rectangles may fill: beyond it no room is left between groups."""
LARGEST_BOX: Final = 240
"""Pixels of a rectangle with its border, where there are few."""
FALSE_SCALE: Final = 1.35
"""A false negative is so much larger than other outfits: the figure is about them."""
USER_BOX: Final = 190
"""Pixels around a user's X (and the name below it) that outfits keep free."""
MOST_ROUNDS: Final = 1000
"""Of moving apart; what still overlaps then stays so."""
GROWING_ROUNDS: Final = 200
"""In so many rounds the rectangles grow from `FIRST_SIZE` of their size to all of it."""
FIRST_SIZE: Final = 0.3
LARGEST_STEP: Final = 12.0
"""Pixels that a rectangle moves per round."""
ENOUGH: Final = 1.0
"""Pixels of overlap that do not matter."""

# Kinds of outfits, in the order in which they lie upon each other, the topmost first.
TEST_POSITIVE, FALSE_NEGATIVE, POSITIVE, NEGATIVE = range(4)


@dataclass(frozen=True)
class Layout:
    """Everything in pixels from the lower left corner; outfits are negatives, then positives."""

    items: Int32Array
    """(n, M) padded."""
    kind: Int64Array
    """(n,) TEST_POSITIVE, FALSE_NEGATIVE, POSITIVE or NEGATIVE."""
    user: Int64Array
    """(n,) place of the user whose colour the outfit has; a NEGATIVE is black."""
    centres: Float64Array
    """(n, 2)"""
    boxes: Float64Array
    """(n,) side of the square with its border."""
    users: Float64Array
    """(K, 2) centres of the users' marks."""
    moved: float
    """Mean distance that outfits were moved, as a share of the canvas's width."""


def layout(space: Space) -> Layout:
    """Places of everything in the space.

    A negative is a false one where d < 0 for some shown user and has the colour of the user with
    the smallest d. It is a test positive where it is one of a user for whom d < 0; then it has that
    user's colour.
    """
    kind, user = kinds(space.negatives.d, space.negatives.in_test)
    kind = np.concatenate([kind, np.full(len(space.owner), POSITIVE)])
    boxes = box_sides(kind)
    xy = on_canvas(np.concatenate([space.user_xy, space.negative_xy, space.positive_xy]))
    users, wanted = xy[: len(space.users)], xy[len(space.users) :]
    centres = moved_apart(wanted, boxes, users)
    return Layout(
        items=np.concatenate([space.negatives.items, space.positives]),
        kind=kind,
        user=np.concatenate([user, space.owner]),
        centres=centres,
        boxes=boxes,
        users=users,
        moved=float(np.linalg.norm(centres - wanted, axis=1).mean() / CANVAS[0]),
    )


def kinds(d: NDArray[np.float32], in_test: NDArray[np.bool_]) -> tuple[Int64Array, Int64Array]:
    """Kind and user `(n,)` of negatives, from d of Eq. 12 and test positives, both `(K, n)`."""
    hits = in_test & (d < 0)
    hit = hits.any(axis=0)
    kind = np.where(hit, TEST_POSITIVE, np.where((d < 0).any(axis=0), FALSE_NEGATIVE, NEGATIVE))
    return kind, np.where(hit, np.where(hits, d, np.inf).argmin(axis=0), d.argmin(axis=0))


def box_sides(kind: Int64Array) -> Float64Array:
    """`(n,)` sides of the squares: as large as the canvas has room for."""
    scale = np.where(kind <= FALSE_NEGATIVE, FALSE_SCALE, 1.0)
    room = MOST_FILLED * CANVAS[0] * CANVAS[1]
    side = min(LARGEST_BOX / FALSE_SCALE, float(np.sqrt(room / (scale**2).sum())))
    return np.round(side * scale)


def on_canvas(xy: Float64Array) -> Float64Array:
    """Places `(n, 2)` in pixels: each axis fills the canvas, less room for half a mark.

    The axes of t-SNE have no unit, so each may be stretched by itself.
    """
    low, high = xy.min(axis=0), xy.max(axis=0)
    extent = np.where(high > low, high - low, 1)
    edge = MARGIN + USER_BOX / 2
    return np.asarray(edge + (xy - low) / extent * (np.array(CANVAS) - 2 * edge))


def moved_apart(centres: Float64Array, boxes: Float64Array, fixed: Float64Array) -> Float64Array:
    """`(n, 2)` the centres of squares, moved until they cover neither each other nor a mark.

    In each round every pair that overlaps is pushed apart, half each, along the axis on which less
    is missing; so neighbours stay neighbours. No chance is in it.

    Args:
        centres: `(n, 2)` where they should be.
        boxes: `(n,)` their sides.
        fixed: `(K, 2)` centres of marks of side `USER_BOX` that stay.
    """
    placed = centres.copy()
    n = len(placed)
    sides = np.concatenate([boxes, np.full(len(fixed), USER_BOX)])
    reach = (boxes[:, None] + sides) / 2
    share = np.concatenate([np.full(n, 0.5), np.ones(len(fixed))])[None, :, None]
    # Of two at the same place, the first goes one way and the second the other.
    tie = np.where(np.arange(n)[:, None] < np.arange(len(sides)), -1.0, 1.0)[..., None]
    edge = (MARGIN + boxes / 2)[:, None]
    for done in range(MOST_ROUNDS):
        # Squares that grow find room that squares of full size would block for each other.
        size = min(1.0, FIRST_SIZE + (1 - FIRST_SIZE) * done / GROWING_ROUNDS)
        apart = placed[:, None] - np.concatenate([placed, fixed])  # (n, n + K, 2)
        missing = size * reach[..., None] - np.abs(apart)
        missing[np.arange(n), np.arange(n)] = 0
        least = missing.min(axis=2, keepdims=True)
        if size == 1 and least.max() < ENOUGH:
            break
        first = (missing[..., 0] <= missing[..., 1])[..., None]
        axis = np.concatenate([first, ~first], axis=2)
        way = np.where(apart == 0, tie, np.sign(apart))
        push = np.where((least > 0) & axis, way * missing * share, 0).sum(axis=1)
        step = np.clip(push, -LARGEST_STEP, LARGEST_STEP)
        placed = np.clip(placed + step, edge, np.array(CANVAS) - edge)
    return placed
