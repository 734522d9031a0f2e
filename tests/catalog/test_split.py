"""The split: its shares, and that nothing but the user and the item set decides."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recjob.catalog.catalog import Catalog
from recjob.catalog.split import (
    Part,
    part_positives,
    split_parts,
    training_counts,
    warm_users,
)
from recjob.settings import SplitSettings, UserSettings
from tests.catalog.shops import random_shop

SETTINGS = SplitSettings()
Named = dict[tuple[str, frozenset[str]], int]


def by_name(catalog: Catalog, split: SplitSettings = SETTINGS) -> Named:
    """The part of each positive, by the names of the user and the items."""
    parts = split_parts(catalog, split)
    named: Named = {}
    for (user, outfit), part in zip(catalog.positives, parts, strict=True):
        items = frozenset(catalog.item_ids[i] for i in catalog.outfit_items[outfit] if i >= 0)
        key = (catalog.user_ids[user], items)
        assert named.setdefault(key, int(part)) == part
    return named


def renamed_and_grown(catalog: Catalog, rng: np.random.Generator) -> Catalog:
    """Other indices, other outfit ids, another order of items, and more of everything."""
    n_items, n_outfits, n_users = catalog.n_items + 7, catalog.n_outfits + 5, catalog.n_users + 3
    item = rng.permutation(n_items).astype(np.int32)  # old index to new index
    outfit = rng.permutation(n_outfits)
    user = rng.permutation(n_users)
    width = catalog.max_items + 2
    outfits = np.full((n_outfits, width), -1, dtype=np.int32)
    outfits[:, 0] = rng.integers(0, n_items, n_outfits)
    for old in range(catalog.n_outfits):
        row = catalog.outfit_items[old]
        row = rng.permutation(item[row[row >= 0]])
        outfits[outfit[old]] = -1
        outfits[outfit[old], : row.size] = row
    item_ids = [""] * n_items
    user_ids = [""] * n_users
    for old in range(n_items):
        item_ids[item[old]] = catalog.item_ids[old] if old < catalog.n_items else f"new{old}"
    for old in range(n_users):
        user_ids[user[old]] = catalog.user_ids[old] if old < catalog.n_users else f"new{old}"
    pairs = np.stack([user[catalog.positives[:, 0]], outfit[catalog.positives[:, 1]]], axis=1)
    more = np.stack([rng.integers(0, n_users, 20), rng.integers(0, n_outfits, 20)], axis=1)
    return dataclasses.replace(
        catalog,
        item_ids=tuple(item_ids),
        item_category=np.zeros(n_items, dtype=np.int32),
        item_image=("x",) * n_items,
        item_available=np.zeros(n_items, dtype=np.bool_),
        outfit_ids=tuple(f"other{number}" for number in range(n_outfits)),
        outfit_items=outfits,
        outfit_available=np.zeros(n_outfits, dtype=np.bool_),
        user_ids=tuple(user_ids),
        positives=np.unique(np.concatenate([pairs, more]).astype(np.int32), axis=0),
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_growing_catalog_moves_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    catalog = random_shop(rng)
    before, after = by_name(catalog), by_name(renamed_and_grown(catalog, rng))
    assert before.items() <= after.items()


def test_shares() -> None:
    catalog = random_shop(
        np.random.default_rng(0), n_items=300, n_users=200, n_outfits=2000, n_positives=60_000
    )
    parts = split_parts(catalog, SETTINGS)
    shares = np.bincount(parts, minlength=4) / len(parts)
    # Four standard deviations of a share of 9/13 among 55,000 draws are 0.008.
    np.testing.assert_allclose(shares, np.array([9, 1, 1, 2]) / 13, atol=0.008)
    # A user's share in training is that of an independent draw as well.
    users = catalog.positives[:, 0]
    per_user = np.bincount(users, weights=parts == Part.TRAIN) / np.bincount(users)
    deviation = np.sqrt(9 / 13 * 4 / 13 / np.bincount(users))
    assert 0.8 < ((per_user - 9 / 13) / deviation).std() < 1.2


def test_parts_that_the_settings_leave_out_stay_empty() -> None:
    catalog = random_shop(np.random.default_rng(1))
    parts = split_parts(catalog, SplitSettings(train=1, validation=0, test=0))
    assert (parts == Part.TRAIN).all()
    parts = split_parts(catalog, SplitSettings(train=1, validation=0, test=1))
    assert set(parts.tolist()) == {Part.TRAIN, Part.TEST}


def test_the_key_decides() -> None:
    catalog = random_shop(np.random.default_rng(2), n_positives=400)
    assert by_name(catalog) == by_name(catalog)
    assert by_name(catalog) != by_name(catalog, SplitSettings(key="another"))


def naive_mix(value: int) -> int:
    """Splitmix64 in Python's own integers."""
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


def naive_part(user: str, items: frozenset[str], key: str) -> Part:
    def keyed(name: str, kind: bytes) -> int:
        secret = hashlib.blake2b(key.encode()).digest()
        digest = hashlib.blake2b(name.encode(), digest_size=8, key=secret, person=kind).digest()
        return int.from_bytes(digest, "little")

    together = sum(naive_mix(keyed(item, b"item")) for item in items) % 2**64
    fraction = naive_mix((naive_mix(keyed(user, b"user")) + naive_mix(together)) % 2**64) / 2**64
    if fraction < 9 / 13:
        return Part.TRAIN
    if fraction < 10 / 13:
        return Part.VALIDATION_TEACHER
    return Part.VALIDATION_STUDENT if fraction < 11 / 13 else Part.TEST


def test_the_assignment_never_changes() -> None:
    """Models of different days are compared on one test part: written down once more, by hand."""
    catalog = random_shop(np.random.default_rng(3), n_positives=300)
    for (user, items), part in by_name(catalog, SplitSettings(key="k")).items():
        assert part == naive_part(user, items, "k")
    assert naive_part("user", frozenset({"a", "b"}), "recjob") == Part.TRAIN


def test_counts_and_warm_users() -> None:
    catalog = random_shop(np.random.default_rng(4), quarantined=8)
    parts = split_parts(catalog, SETTINGS)
    expected = np.zeros(catalog.n_users, dtype=np.int64)
    for (user, outfit), part in zip(catalog.positives, parts, strict=True):
        items = [item for item in catalog.outfit_items[outfit] if item >= 0]
        if part == Part.TRAIN and all(catalog.item_image[item] for item in items):
            expected[user] += 1
    assert training_counts(catalog, parts).tolist() == expected.tolist()
    bar = int(np.median(expected))
    warm = warm_users(catalog, parts, UserSettings(min_training_positives=bar))
    assert warm.tolist() == [user for user in range(catalog.n_users) if expected[user] >= bar]
    assert warm.dtype == np.int32
    assert len(part_positives(catalog, parts, Part.TRAIN)) == expected.sum()
    both = part_positives(catalog, parts, Part.TRAIN, Part.TEST)
    assert len(both) == expected.sum() + len(part_positives(catalog, parts, Part.TEST))
