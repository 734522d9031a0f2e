"""Runs of made-up lists, written as the nightly job writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from recjob.catalog.catalog import PADDING
from recjob.store.catalog_store import CatalogKeys
from recjob.store.database import Database
from recjob.store.ledger import Lease, Locks, Resource
from recjob.store.publication import keep_run, load_run, show_run
from recjob.store.run_lists import RunLists

LOCKS = Locks(writes=frozenset({Resource.PUBLICATION}))


@contextmanager
def running(database: Database, parameters: Mapping[str, object] | None = None) -> Iterator[int]:
    """A nightly run that is alive; its number."""
    lease = Lease(database, "nightly-recommend", LOCKS, parameters or {})
    try:
        yield lease.run_id
    finally:
        lease.end("done", {}, [], {}, None)


def run_lists(lists: Mapping[int, Sequence[int]], score: float = 0.5) -> RunLists:
    """Outfits by user, both as indices; every place of a list has the same score."""
    width = max(map(len, lists.values()))
    outfits = np.full((len(lists), width), PADDING, np.int32)
    for row, outfits_of in enumerate(lists.values()):
        outfits[row, : len(outfits_of)] = outfits_of
    users = np.array(list(lists), np.int32)
    kinds = np.where(users < 0, 2, 0).astype(np.int32)
    return RunLists(users, kinds, outfits, np.full(outfits.shape, score, np.float32))


def write_run(
    database: Database, keys: CatalogKeys, lists: RunLists, shown: int, held: str | None = None
) -> int:
    """Load, keep and, unless held, show; its number."""
    with running(database, {"model": "s-1"}) as run_id:
        load_run(database, run_id, keys, [lists], exclude_seen=False, shown=shown)
        keep_run(database, run_id, shown=shown, statistics={"lists": 6}, held=held)
        if held is None:
            show_run(database, run_id)
    return run_id
