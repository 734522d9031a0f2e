"""The hidden taste of simulated users: the truth that a model of the demo is held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recjob.catalog.catalog import PADDING, Float32Array, Int32Array
from recjob.catalog.garments.canvas import PATTERNS
from recjob.catalog.garments.items import (
    CATEGORIES,
    COLOURS,
    KIND_CATEGORY,
    KIND_NAMES,
    OUTER,
    DrawnItems,
    palette_lab,
)

# The utility's weights. Colour counts most, as it does in small pictures; the shared appeal of an
# item makes popularity worth something, and clashes cannot be seen in one item alone.
_COLOUR, _KIND, _PATTERN, _APPEAL = 1.2, 0.5, 0.4, 0.15
_CLASH, _CLUTTER, _LAYERS = 0.6, 0.25, 0.5
_LIKED_COLOURS = 3
_LIKED_PATTERNS = 2
# Between what a user loves (1) and never wears (-1), the rest lies within this of 0.
_INDIFFERENCE = 0.3
# CIELAB distance at which the liking of a colour has faded to 60 %.
_COLOUR_REACH = 22.0
# CIELAB chroma from which a colour clashes in full.
_FULL_CHROMA = 60.0


@dataclass(frozen=True)
class Taste:
    """What each user likes, and what everyone sees in an item and in a combination."""

    items: DrawnItems
    liked_lab: Float32Array
    """(n_users, liked colours, 3) in CIELAB."""
    kinds: Float32Array
    """(n_users, n_kinds) between -1 and 1."""
    patterns: Float32Array
    """(n_users, n_patterns) between -1 and 1."""
    appeal: Float32Array
    """(n_items,) about 0, the same for all users."""

    def utility(self, users: Int32Array, outfits: Int32Array) -> Float32Array:
        """(n,) how much `users` (n,) truly like `outfits` (n, k) of item indices, padded."""
        real = outfits != PADDING
        items = np.where(real, outfits, 0)
        away = self.items.lab[items][:, :, None] - self.liked_lab[users][:, None]
        nearest = np.square(away).sum(axis=-1).min(axis=-1)
        liking = _COLOUR * np.exp(-nearest / (2 * _COLOUR_REACH**2))
        liking += _KIND * self.kinds[users[:, None], self.items.kind[items]]
        liking += _PATTERN * self.patterns[users[:, None], self.items.pattern[items]]
        liking += _APPEAL * self.appeal[items]
        mean = np.where(real, liking, 0).sum(axis=1) / real.sum(axis=1)
        return np.asarray(mean - self.discord(outfits), dtype=np.float32)

    def discord(self, outfits: Int32Array) -> Float32Array:
        """(n,) what everyone minds about the combinations `outfits` (n, k): 0 where nothing."""
        real = outfits != PADDING
        items = np.where(real, outfits, 0)
        a, b = np.moveaxis(self.items.lab[items][..., 1:], -1, 0)
        chroma = np.where(real, np.minimum(np.hypot(a, b) / _FULL_CHROMA, 1), 0)
        hue = np.arctan2(b, a)
        # Neighbouring hues agree, opposite ones contrast, those a quarter turn apart clash.
        quarter = np.square(np.sin(hue[:, :, None] - hue[:, None, :]))
        clash = (chroma[:, :, None] * chroma[:, None, :] * quarter).max(axis=(1, 2))
        patterned = real & (self.items.pattern[items] != PATTERNS.index("plain"))
        clutter = np.maximum(patterned.sum(axis=1) - 1, 0)
        tops = real & (self.items.category[items] == CATEGORIES.index("top"))
        outer = tops & OUTER[self.items.kind[items]]
        # Two tops are one over the other: exactly one of them is a jacket or a coat.
        odd = (tops.sum(axis=1) > 1) & (outer.sum(axis=1) != 1)
        return np.asarray(_CLASH * clash + _CLUTTER * clutter + _LAYERS * odd, dtype=np.float32)


def draw_taste(items: DrawnItems, n_users: int, rng: np.random.Generator) -> Taste:
    """Independent tastes; a user loves one kind of each category and never wears another."""
    everyone = np.arange(n_users)
    kinds = rng.uniform(-_INDIFFERENCE, _INDIFFERENCE, (n_users, len(KIND_NAMES)))
    for category in range(len(CATEGORIES)):
        own = np.flatnonzero(category == KIND_CATEGORY)
        order = own[rng.random((n_users, own.size)).argsort(axis=1)]
        kinds[everyone, order[:, 0]] = 1
        kinds[everyone, order[:, 1]] = -1
    patterns = rng.uniform(-_INDIFFERENCE, _INDIFFERENCE, (n_users, len(PATTERNS)))
    order = rng.random(patterns.shape).argsort(axis=1)
    np.put_along_axis(patterns, order[:, :_LIKED_PATTERNS], 1, axis=1)
    np.put_along_axis(patterns, order[:, -_LIKED_PATTERNS:], -1, axis=1)
    colours = rng.random((n_users, len(COLOURS))).argsort(axis=1)[:, :_LIKED_COLOURS]
    return Taste(
        items=items,
        liked_lab=palette_lab()[colours],
        kinds=kinds.astype(np.float32),
        patterns=patterns.astype(np.float32),
        appeal=rng.normal(0, 1, items.kind.size).astype(np.float32),
    )
