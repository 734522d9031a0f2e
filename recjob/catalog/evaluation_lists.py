"""The fixed lists of the evaluation: each positive with negatives that all methods rank alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recjob.catalog.catalog import Catalog, Int8Array, Int32Array
from recjob.catalog.negatives import KnownPositives, RandomNegatives
from recjob.catalog.split import Part, part_positives


@dataclass(frozen=True)
class EvaluationLists:
    """Lists to rank: each a positive and negatives that stay the same for every method."""

    user: Int32Array
    """(n,)"""
    items: Int32Array
    """(n, 1 + n_negatives, max_items) item indices, padded; the positive is first."""
    left_out: int
    """Positives without a list: an item in quarantine, or no negatives to be had for them."""


def evaluation_lists(
    catalog: Catalog,
    parts: Int8Array,
    part: Part,
    n_negatives: int,
    seed: int,
    users: Int32Array | None = None,
    max_positives: int = 0,
) -> EvaluationLists:
    """One list per positive of `part` (Sec. 4.1.2), the same for the same `seed`.

    Negatives are random outfits of the part's items, never a positive of that user in any part.
    `users` keeps to their positives; `max_positives` > 0 takes a random choice of so many.
    """
    rng = np.random.default_rng([seed, int(part)])
    usable = part_positives(catalog, parts, part)
    wanted = usable if users is None else usable[np.isin(usable[:, 0], users)]
    asked = catalog.positives[parts == part, 0]
    left_out = (asked.size if users is None else int(np.isin(asked, users).sum())) - len(wanted)
    if 0 < max_positives < len(wanted):
        wanted = wanted[np.sort(rng.choice(len(wanted), max_positives, replace=False))]
    known = KnownPositives(catalog)
    random = RandomNegatives(catalog, usable[:, 1])
    user = np.repeat(wanted[:, 0], n_negatives)
    like = np.repeat(wanted[:, 1], n_negatives)
    negatives, stuck = random.draw_unless(
        lambda rows, drawn: known.contains(user[rows], drawn), like, rng
    )
    items = np.concatenate(
        [
            catalog.outfit_items[wanted[:, 1]][:, None],
            negatives.reshape(len(wanted), n_negatives, catalog.max_items),
        ],
        axis=1,
    )
    whole = ~stuck.reshape(len(wanted), n_negatives).any(axis=1)
    return EvaluationLists(wanted[whole, 0], items[whole], left_out + int((~whole).sum()))
