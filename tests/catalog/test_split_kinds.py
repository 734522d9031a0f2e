"""Splits by files, items and time: shares, order, and no leak from test to training."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjob.catalog.catalog import ANY_VALIDATION, NO_PART, NO_TIME, Catalog, Int8Array
from recjob.catalog.negatives import KnownPositives, RandomNegatives, hard_negatives
from recjob.catalog.split import (
    LEFT_OUT,
    Part,
    brings_split,
    part_positives,
    split_name,
    split_parts,
)
from recjob.catalog.split_report import split_report
from recjob.errors import DataError
from recjob.settings import SplitSettings
from tests.catalog.shops import item_set, place, random_shop

Kind = Literal["auto", "hash", "files", "item-disjoint", "time"]
KINDS = get_args(Kind)
seeds = st.integers(0, 2**32 - 1)


def split(catalog: Catalog, kind: Kind, **shares: int) -> Int8Array:
    return split_parts(catalog, SplitSettings(kind=kind, **shares))


def drawn(seed: int, n_items: int = 40, n_positives: int = 120) -> Catalog:
    """With times and parts, some of them missing, and equal outfits under several ids."""
    rng = np.random.default_rng(seed)
    catalog = random_shop(rng, n_items=n_items, n_positives=n_positives)
    n = len(catalog.positives)
    at = rng.integers(0, 30, n) * 1_000_000
    at[rng.random(n) < 0.2] = NO_TIME
    outfits = catalog.outfit_items.copy()
    outfits[:10] = outfits[10:20, ::-1]
    outfits[:10] = np.take_along_axis(outfits[:10], np.argsort(outfits[:10] < 0, axis=1), axis=1)
    return dataclasses.replace(
        catalog,
        outfit_items=outfits,
        positive_at=at,
        positive_part=rng.integers(-1, 5, n).astype(np.int8),
    )


def sets_of(catalog: Catalog, parts: Int8Array, part: Part) -> dict[int, list[frozenset[int]]]:
    """The item sets of a part by user."""
    found: dict[int, list[frozenset[int]]] = {user: [] for user in range(catalog.n_users)}
    for (user, outfit), of in zip(catalog.positives, parts, strict=True):
        if of == part:
            found[int(user)].append(item_set(catalog.outfit_items[outfit]))
    return found


@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from(KINDS))
def test_every_positive_has_one_part_and_no_item_set_two(seed: int, kind: Kind) -> None:
    catalog = drawn(seed)
    parts = split(catalog, kind)
    assert parts.shape == (len(catalog.positives),)
    assert parts.dtype == np.int8
    assert set(parts.tolist()) <= {LEFT_OUT, *Part}
    of_set: dict[tuple[int, frozenset[int]], set[int]] = {}
    for (user, outfit), part in zip(catalog.positives, parts, strict=True):
        key = int(user), item_set(catalog.outfit_items[outfit])
        of_set.setdefault(key, set()).add(int(part))
    assert all(len(found - {LEFT_OUT}) <= 1 for found in of_set.values())
    assert kind != "hash" or LEFT_OUT not in parts
    np.testing.assert_array_equal(parts, split(catalog, kind))
    report = split_report(catalog, parts)
    shares = report.train, report.validation_teacher, report.validation_student, report.test
    assert sum(shares) + report.left_out == pytest.approx(1)
    train, test = (sets_of(catalog, parts, part) for part in (Part.TRAIN, Part.TEST))
    sharing = [
        any(outfit & other for other in train[user]) for user in test for outfit in test[user]
    ]
    assert report.test_sharing == pytest.approx(np.mean(sharing) if sharing else 0)


@settings(max_examples=60, deadline=None)
@given(seeds, st.sampled_from([12, 40, 400]))
def test_item_disjoint(seed: int, n_items: int) -> None:
    """From wardrobes that hang together as a whole to such where no two outfits do."""
    catalog = drawn(seed, n_items)
    parts = split(catalog, "item-disjoint")
    train = sets_of(catalog, parts, Part.TRAIN)
    for part in (Part.TEST, Part.VALIDATION_TEACHER, Part.VALIDATION_STUDENT):
        for user, outfits in sets_of(catalog, parts, part).items():
            worn = frozenset().union(*train[user])
            assert not any(outfit & worn for outfit in outfits)
    liking = np.unique(catalog.positives[:, 0])
    assert all(train[int(user)] for user in liking), "everybody trains"


def naive_groups(sets: list[frozenset[int]]) -> list[set[int]]:
    """Indices of sets that hang together, by merging until nothing changes."""
    groups = [({number}, set(items)) for number, items in enumerate(sets)]
    merged = True
    while merged:
        merged = False
        for one in groups:
            for other in groups:
                if one is not other and one[1] & other[1]:
                    one[0].update(other[0])
                    one[1].update(other[1])
                    groups.remove(other)
                    merged = True
                    break
            if merged:
                break
    return [members for members, _ in groups]


@settings(max_examples=40, deadline=None)
@given(seeds, st.sampled_from([60, 120]))
def test_groups_are_held_out_whole_where_they_suffice(seed: int, n_items: int) -> None:
    catalog = drawn(seed, n_items)
    parts = split(catalog, "item-disjoint")
    for user in range(catalog.n_users):
        rows = np.flatnonzero(catalog.positives[:, 0] == user)
        sets = [item_set(catalog.outfit_items[catalog.positives[row, 1]]) for row in rows]
        groups = naive_groups(sets)
        if rows.size - max(map(len, groups), default=0) < np.ceil(rows.size * 4 / 13):
            continue
        held = np.isin(parts[rows], (Part.VALIDATION_TEACHER, Part.VALIDATION_STUDENT, Part.TEST))
        for group in groups:
            # Equal outfits in two parts: the earlier one is left out of any group.
            of = {bool(held[member]) for member in group if parts[rows[member]] != LEFT_OUT}
            assert len(of) == 1


@pytest.mark.parametrize("kind", ["item-disjoint", "time"])
def test_shares(kind: Kind) -> None:
    rng = np.random.default_rng(0)
    catalog = random_shop(rng, n_items=4000, n_users=3000, n_outfits=4000, n_positives=24_000)
    catalog = dataclasses.replace(
        catalog, positive_at=rng.integers(0, 10**9, 24_000)[: len(catalog.positives)]
    )
    parts = split(catalog, kind)
    shares = np.bincount(parts + 1, minlength=5) / len(parts)
    # Four deviations of a share of 2/13 among 24,000, were the draws independent: 0.009.
    np.testing.assert_allclose(shares, np.array([0, 9, 1, 1, 2]) / 13, atol=0.012)
    halves = shares[2] - shares[3]
    assert abs(halves) < 0.012


def test_a_wardrobe_that_hangs_together_gives_up_outfits_for_its_test() -> None:
    """Pairs of outfits around one coat each, and all coats under one hat: one group of 61."""
    pairs = [[1 + pair, 31 + 2 * pair + one] for pair in range(30) for one in range(2)]
    everything = [*pairs, [0, *range(1, 31)]]
    catalog = place(everything, [0] * 91, [list(range(61))])
    report = split_report(catalog, split(catalog, "item-disjoint"))
    assert report.test_sharing == 0
    assert report.test == pytest.approx(2 / 13, abs=2 / 61)
    assert 1 / 61 <= report.left_out < 0.35


def test_a_user_who_wears_one_coat_with_everything_trains_with_all() -> None:
    catalog = place([[0, 1 + n] for n in range(20)], [0] * 21, [list(range(20))])
    assert (split(catalog, "item-disjoint") == Part.TRAIN).all()


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_by_time_nothing_older_is_tested_than_what_trains(seed: int) -> None:
    catalog = drawn(seed)
    parts = split(catalog, "time")
    assert catalog.positive_at is not None
    users, at = catalog.positives[:, 0], catalog.positive_at
    assert np.isin(parts[at == NO_TIME], (Part.TRAIN, LEFT_OUT)).all()
    validation = np.isin(parts, (Part.VALIDATION_TEACHER, Part.VALIDATION_STUDENT))
    order = [parts == Part.TRAIN, validation, parts == Part.TEST]
    for user in range(catalog.n_users):
        times = [at[(users == user) & chosen & (at != NO_TIME)] for chosen in order]
        for earlier, later in ((0, 1), (1, 2), (0, 2)):
            if times[earlier].size and times[later].size:
                assert times[earlier].max() <= times[later].min()


def test_files_as_the_data_say() -> None:
    outfits = [[number] for number in range(60)]
    catalog = place(outfits, [0] * 60, [list(range(60))])
    given = np.array([0, 1, 2, 3, ANY_VALIDATION, NO_PART] * 10, np.int8)
    catalog = dataclasses.replace(catalog, positive_part=given)
    parts = split(catalog, "files")
    clear = (given >= 0) & (given != ANY_VALIDATION)
    np.testing.assert_array_equal(parts[clear], given[clear])
    assert (parts[given == NO_PART] == Part.TRAIN).all()
    assert set(parts[given == ANY_VALIDATION].tolist()) == {1, 2}
    other = split_parts(catalog, SplitSettings(kind="files", key="another"))
    assert (other[clear] == parts[clear]).all()
    assert (other != parts).any(), "the key halves the validation part"


def test_by_default_the_data_say_and_the_hash_what_they_do_not() -> None:
    catalog = place([[number] for number in range(60)], [0] * 60, [list(range(60))])
    hashed = split_parts(catalog, SplitSettings(kind="hash"))
    np.testing.assert_array_equal(split_parts(catalog, SplitSettings()), hashed)
    assert split_name(catalog, SplitSettings()) == "hash"
    assert not brings_split(catalog, SplitSettings())
    given = np.array([0, 3, ANY_VALIDATION, NO_PART] * 15, np.int8)
    catalog = dataclasses.replace(catalog, positive_part=given)
    parts = split_parts(catalog, SplitSettings())
    said = given != NO_PART
    np.testing.assert_array_equal(parts[said], split(catalog, "files")[said])
    np.testing.assert_array_equal(parts[~said], hashed[~said])
    assert len(set(hashed[~said].tolist())) > 1
    assert split_name(catalog, SplitSettings()) == "files, else hash"
    assert brings_split(catalog, SplitSettings())
    assert split_name(catalog, SplitSettings(kind="hash")) == "hash"
    assert not brings_split(catalog, SplitSettings(kind="hash"))


def test_an_equal_outfit_in_a_later_part_is_left_out_of_the_earlier() -> None:
    catalog = place([[0, 1], [1, 0], [2]], [0, 0, 0], [[0, 1, 2], [0]])
    catalog = dataclasses.replace(catalog, positive_part=np.array([0, 3, 0, 0], np.int8))
    assert split(catalog, "files").tolist() == [LEFT_OUT, Part.TEST, Part.TRAIN, Part.TRAIN]


@pytest.mark.parametrize(("kind", "missing"), [("files", "column part"), ("time", "column at")])
def test_what_the_data_lack_is_told(kind: Kind, missing: str) -> None:
    with pytest.raises(DataError, match=rf'split\.kind is "{kind}".*{missing}'):
        split(random_shop(np.random.default_rng(0)), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_split(kind: Kind) -> None:
    catalog = dataclasses.replace(drawn(0), positives=np.empty((0, 2), np.int32))
    catalog = dataclasses.replace(
        catalog, positive_at=np.empty(0, np.int64), positive_part=np.empty(0, np.int8)
    )
    assert split(catalog, kind).shape == (0,)
    assert split_report(catalog, split(catalog, kind)).test_sharing == 0


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from(KINDS))
def test_training_negatives_know_nothing_of_what_is_tested(seed: int, kind: Kind) -> None:
    """Other test positives, the same draws; and a test positive may be drawn as a negative."""
    catalog = drawn(seed)
    parts = split(catalog, kind)
    positives = part_positives(catalog, parts, Part.TRAIN)
    rng = np.random.default_rng(seed)
    other = catalog.positives.copy()
    hidden = parts != Part.TRAIN
    other[hidden, 1] = rng.integers(0, catalog.n_outfits, int(hidden.sum()))
    draws = []
    for pairs in (catalog.positives, other):
        training = dataclasses.replace(catalog, positives=pairs[parts == Part.TRAIN])
        known = KnownPositives(training)
        like = positives[:, 1]
        random = RandomNegatives(training, like).draw(like, np.random.default_rng(1))
        hard = hard_negatives(training, positives, positives[:, 0], np.random.default_rng(1), known)
        draws.append((random, training.outfit_items[hard]))
    for one, same in zip(*draws, strict=True):
        np.testing.assert_array_equal(one, same)
