"""The evaluation lists of a shop: drawn once, stored with their seed, the same for every model."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from recjob.catalog.catalog import PADDING, Catalog, Int8Array, Int32Array, Int64Array
from recjob.catalog.evaluation_lists import (
    HARD_SHARES,
    EvaluationLists,
    ListDrawer,
    part_rows,
    usable_rows,
)
from recjob.catalog.negatives import KnownPositives
from recjob.catalog.split import Part, brings_split, split_name
from recjob.catalog.split_report import split_report
from recjob.jobs.runner import JobContext
from recjob.jobs.workspace import Shop
from recjob.settings import NegativesKind
from recjob.store.evaluation_lists import (
    EvaluationSet,
    StoredNegatives,
    lock_lists,
    read_given_negatives,
    read_lists,
    replace_lists,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredLists(EvaluationLists):
    """Evaluation lists, and where they come from."""

    as_stored: int
    """Lists of an earlier evaluation."""
    drawn: int
    """Lists of positives that had none."""
    redrawn: int
    """Lists that were stored and hold no longer: a negative has become a positive of that user, or
    an item of one went into quarantine."""


def stored_lists(
    context: JobContext,
    shop: Shop,
    parts: Int8Array,
    part: Part,
    kind: NegativesKind,
    users: Int32Array | None = None,
) -> StoredLists:
    """One list per positive of `part`, of `users` alone where they are given.

    A list that is stored is used as it is, however the catalog has grown since; the others are
    drawn as `catalog.evaluation_lists` does and stored. Where the split is one that the data
    brought, their negatives come first.
    """
    settings, catalog = context.settings, shop.catalog
    n_negatives = settings.evaluation.negatives_per_positive
    wanted = EvaluationSet(settings.split, part, kind, n_negatives, settings.seed)
    of_part = part_rows(catalog, parts, part, users)
    rows = usable_rows(catalog, of_part)
    with context.database.begin() as connection:
        given = None
        if brings_split(catalog, settings.split):
            given = read_given_negatives(connection, catalog, shop.keys)
        drawer = ListDrawer(
            catalog, parts, part, n_negatives, settings.seed, HARD_SHARES[kind], given
        )
        set_key = lock_lists(connection, wanted)
        found = read_lists(connection, set_key, n_negatives, shop.keys)
        place = _places(catalog, rows, found)
        had = place >= 0
        good = had.copy()
        good[had] = _still_good(catalog, drawer.known, rows[had], found.negatives[place[had]])
        drawn, whole = drawer.draw(rows[~good])
        of_drawn = rows[~good][whole]
        user, outfit = catalog.positives[of_drawn].T
        new = StoredNegatives(user, outfit, drawn[whole, 1:])
        replace_lists(connection, set_key, new, shop.keys)
    old = _with_positives(catalog, rows[good], found.negatives[place[good]])
    kept = np.concatenate([rows[good], of_drawn])
    order = np.argsort(kept)
    items = _stacked(old, drawn[whole])[order]
    redrawn = int(had[~good][whole].sum())
    lists = StoredLists(
        catalog.positives[kept[order], 0],
        items,
        of_part.size - kept.size,
        as_stored=int(good.sum()),
        drawn=of_drawn.size - redrawn,
        redrawn=redrawn,
    )
    log.info("split %s: %s", split_name(catalog, settings.split), split_report(catalog, parts))
    log.info(
        "evaluation lists (%s, %s): %d as stored, %d drawn, %d drawn anew, %d positives without",
        part.name.lower().replace("_", " "),
        kind,
        lists.as_stored,
        lists.drawn,
        lists.redrawn,
        lists.left_out,
    )
    return lists


def _places(catalog: Catalog, rows: Int64Array, found: StoredNegatives) -> Int64Array:
    """(n,) where in `found` the list of each positive of `rows` is; -1: nowhere."""
    pairs = _pairs(catalog, catalog.positives[rows, 0], catalog.positives[rows, 1])
    there = np.flatnonzero((found.users >= 0) & (found.outfits >= 0))
    stored = _pairs(catalog, found.users[there], found.outfits[there])
    places = np.full(rows.size, -1, np.int64)
    if stored.size:
        order = np.argsort(stored)
        at = np.minimum(np.searchsorted(stored[order], pairs), stored.size - 1)
        same = stored[order][at] == pairs
        places[same] = there[order[at[same]]]
    return places


def _pairs(catalog: Catalog, users: Int32Array, outfits: Int32Array) -> Int64Array:
    return users.astype(np.int64) * catalog.n_outfits + outfits


def _still_good(
    catalog: Catalog, known: KnownPositives, rows: Int64Array, negatives: Int32Array
) -> np.typing.NDArray[np.bool_]:
    """(n,) whether the stored negatives (n, k, places) of the positives `rows` still are some."""
    n, k, places = negatives.shape
    flat = negatives.reshape(-1, places)
    user = np.repeat(catalog.positives[rows, 0], k)
    real = flat != PADDING
    usable = (catalog.item_usable[flat] | ~real).all(axis=1) & real.any(axis=1)
    good = usable & ~known.contains(user, flat)
    return np.asarray(good.reshape(n, k).all(axis=1))


def _with_positives(catalog: Catalog, rows: Int64Array, negatives: Int32Array) -> Int32Array:
    """(n, 1 + k, places) each positive before its negatives (n, k, places)."""
    outfits = catalog.outfit_items[catalog.positives[rows, 1]]
    return np.concatenate(_as_wide(outfits[:, None], negatives), axis=1)


def _stacked(old: Int32Array, new: Int32Array) -> Int32Array:
    return np.concatenate(_as_wide(old, new))


def _as_wide(a: Int32Array, b: Int32Array) -> tuple[Int32Array, Int32Array]:
    """Both with as many places as the wider one."""
    width = max(a.shape[2], b.shape[2])
    a, b = (
        np.pad(x, ((0, 0), (0, 0), (0, width - x.shape[2])), constant_values=PADDING)
        for x in (a, b)
    )
    return a, b
