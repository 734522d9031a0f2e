"""Lists against a naive version of the definition, one outfit at a time."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recjob.ranking import lists as module
from recjob.ranking.lists import (
    SHORT_BY_CANDIDATES,
    SHORT_BY_CAPS,
    ListChoice,
    ListPlan,
    Variety,
    choose_lists,
    directions,
    fill_lists,
)
from recjob.ranking.rules import Caps
from recjob.settings import RuleSettings, VarietySettings

ONE = 32767


@dataclass
class Shop:
    """Outfits of a few items and patterns, users, and what a list of them may hold."""

    vectors: NDArray[np.float32]
    users: NDArray[np.float32]
    items: NDArray[np.int32]
    patterns: NDArray[np.int32]
    strength: float = 0.0
    pool: int = 10
    max_item: int = 0
    max_pattern: int = 0
    asked: list[tuple[int, int]] = field(default_factory=list)
    """Users and depth of every search."""

    @property
    def variety(self) -> Variety | None:
        return Variety.of(VarietySettings(strength=self.strength, pool=self.pool), self.vectors)

    @property
    def caps(self) -> Caps | None:
        rules = RuleSettings(
            max_outfits_per_item=self.max_item, max_per_category_pattern=self.max_pattern
        )
        return Caps.of(rules, self.items, self.patterns)

    def search(
        self, rows: NDArray[np.int64], depth: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        self.asked.append((len(rows), depth))
        outfits, scores = self.ranking()
        return outfits[rows, :depth], scores[rows, :depth]

    def ranking(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """All outfits, best first, ties by the lower index; the grid's scores are exact."""
        scores = self.users @ self.vectors.T
        outfits = np.argsort(-scores, axis=1, kind="stable")
        return outfits, np.take_along_axis(scores, outfits, axis=1)

    def fill(self, k: int) -> ListChoice:
        everything = np.ones(len(self.vectors), np.bool_)
        rules = RuleSettings(
            max_outfits_per_item=self.max_item, max_per_category_pattern=self.max_pattern
        )
        variety = VarietySettings(strength=self.strength, pool=self.pool)
        plan = ListPlan.of(k, everything, self.vectors, self.items, self.patterns, rules, variety)
        return fill_lists(self.search, len(self.users), plan)


def draw(seed: int, n: int, n_users: int = 6, width: int = 5, n_items: int = 12) -> Shop:
    """Vectors on a coarse grid, so that scores and cosines tie and a few are zero."""
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(n_items)[:3] for _ in range(n)]).reshape(n, 3)
    items[rng.random(n) < 0.5, 2] = -1
    return Shop(
        rng.integers(-2, 3, (n, width)).astype(np.float32),
        rng.integers(-2, 3, (n_users, width)).astype(np.float32),
        items.astype(np.int32),
        rng.integers(0, 4, n).astype(np.int32),
    )


def naive(shop: Shop, outfits: list[int], scores: list[float], k: int) -> list[int]:
    """The definition in Python's own integers and floats; the whole ranking of a user."""
    taken: list[int] = []
    barred: set[int] = set()
    unit = directions(shop.vectors).astype(int).tolist()
    pool = list(range(min(shop.pool, len(outfits)))) if shop.strength else []
    rest = [place for place in range(len(outfits)) if place not in pool]
    low, high = (scores[pool[-1]], scores[pool[0]]) if pool else (0, 0)

    def marginal(place: int) -> float:
        relevance = (scores[place] - low) / (high - low) if high > low else 0.0
        nearest = max(
            (
                sum(a * b for a, b in zip(unit[outfits[place]], unit[outfits[other]], strict=True))
                for other in taken
            ),
            default=-ONE * ONE,
        )
        return (1 - shop.strength) * relevance - shop.strength / (ONE * ONE) * nearest

    def breaks_a_cap(outfit: int) -> bool:
        worn = [outfits[place] for place in taken]
        own = set(shop.items[outfit].tolist()) - {-1}
        shared = [sum(item in shop.items[other] for other in worn) for item in own]
        alike = sum(shop.patterns[outfit] == shop.patterns[other] for other in worn)
        return bool(
            (shop.max_item and max(shared) >= shop.max_item)
            or (shop.max_pattern and alike >= shop.max_pattern)
        )

    while len(taken) < k:
        open_pool = [place for place in pool if place not in taken and place not in barred]
        open_rest = [place for place in rest if place not in taken and place not in barred]
        if not (open_pool or open_rest):
            break
        best = max(open_pool, key=marginal) if open_pool else open_rest[0]
        if breaks_a_cap(outfits[best]):
            barred.add(best)
        else:
            taken.append(best)
    return [outfits[place] for place in taken]


def rows(outfits: NDArray[np.int64]) -> list[list[int]]:
    return [[outfit for outfit in row if outfit >= 0] for row in outfits.tolist()]


def test_without_variety_and_caps_the_pool_passes_through() -> None:
    pool = np.array([[4, 2, 9], [3, -1, -1]])
    scores = np.array([[3, 2, 1], [5, -np.inf, -np.inf]], np.float32)
    for k in (1, 2, 3, 5):
        found = choose_lists(pool, scores, k)
        assert rows(found.outfits) == [[4, 2, 9][:k], [3]]
        assert found.outfits.shape == found.scores.shape == (2, k)
        assert found.scores[1, 1:].tolist() == [-np.inf] * (k - 1)
        assert found.short.tolist() == [k > 3, k > 1]


def test_a_known_answer() -> None:
    # Two directions: 0, 1, 2 point one way, 3 another. Half relevance, half variety: after 0,
    # outfit 1 has 0.5 * 0.9 - 0.5 * 1 and outfit 3 has 0.5 * 0 - 0.5 * 0.
    vectors = np.array([[1, 0], [2, 0], [3, 0], [0, 1]], np.float32)
    variety = Variety.of(VarietySettings(strength=0.5, pool=4), vectors)
    pool, scores = np.array([[0, 1, 2, 3]]), np.array([[10, 9, 5, 0]], np.float32)
    found = choose_lists(pool, scores, 4, variety)
    assert found.outfits.tolist() == [[0, 3, 1, 2]]
    assert found.scores.tolist() == [[10, 0, 9, 5]]
    # Of a pool of 3 the other direction is no part; it fills up at the end.
    shallow = Variety.of(VarietySettings(strength=0.5, pool=3), vectors)
    assert choose_lists(pool, scores, 4, shallow).outfits.tolist() == [[0, 1, 2, 3]]


def test_what_caps_leave_out_is_counted() -> None:
    items = np.array([[0, 1], [0, 2], [0, 3], [4, 5], [6, -1], [7, -1]], np.int32)
    patterns = np.array([0, 0, 0, 0, 1, 0], np.int32)
    caps = Caps(items, patterns, 8, 2, 2, 3)
    found = choose_lists(np.arange(6)[None], np.arange(6, 0, -1)[None].astype("f"), 5, None, caps)
    assert rows(found.outfits) == [[0, 1, 3, 4]]
    assert found.skipped.tolist() == [[1, 1]]  # outfit 2 for item 0, outfit 5 for the pattern
    assert found.counts[SHORT_BY_CAPS] == 1
    assert found.counts[SHORT_BY_CANDIDATES] == 0
    # A full list asks no further.
    full = choose_lists(np.arange(6)[None], np.arange(6, 0, -1)[None].astype("f"), 2, None, caps)
    assert full.counts == dict.fromkeys(full.counts, 0)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_lists_equal_the_naive_version_and_are_full_where_they_can_be(data: st.DataObject) -> None:
    shop = draw(data.draw(st.integers(0, 2**32)), data.draw(st.integers(1, 60)))
    shop.strength = data.draw(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))
    shop.pool = data.draw(st.integers(1, 40))
    shop.max_item = data.draw(st.integers(0, 3))
    shop.max_pattern = data.draw(st.integers(0, 4))
    k = data.draw(st.integers(1, 20))
    found = shop.fill(k)
    outfits, scores = shop.ranking()
    for user, mine in enumerate(rows(found.outfits)):
        assert mine == naive(shop, outfits[user].tolist(), scores[user].tolist(), k)
        own = [scores[user, outfits[user].tolist().index(outfit)] for outfit in mine]
        assert found.scores[user, : len(mine)].tolist() == own
        used = shop.items[mine][shop.items[mine] >= 0]
        assert not shop.max_item or np.bincount(used, minlength=1).max() <= shop.max_item
        kinds = np.bincount(shop.patterns[mine])
        assert not shop.max_pattern or kinds.max() <= shop.max_pattern


def test_one_strength_means_the_same_for_users_of_small_and_large_scores() -> None:
    shop = draw(3, 60)
    outfits, scores = shop.ranking()
    variety = Variety.of(VarietySettings(strength=0.4, pool=50), shop.vectors)
    expected = choose_lists(outfits, scores, 10, variety).outfits
    small = scores / np.float32(1024) + np.float32(8)  # exact in float32
    found = choose_lists(outfits, small, 10, variety).outfits
    np.testing.assert_array_equal(found, expected)


def test_rounded_directions_change_no_cosine_by_much() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 128)).astype(np.float32)
    vectors[7] = 0
    vectors[8] *= 1e30
    unit = vectors.astype(np.float64)
    length = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = np.divide(unit, length, out=np.zeros_like(unit), where=length > 0)
    rounded = directions(vectors).astype(np.float64) / ONE
    assert np.abs(rounded @ rounded.T - unit @ unit.T).max() < 5e-4
    assert not rounded[7].any()


def test_only_unfinished_lists_are_searched_deeper() -> None:
    shop = draw(5, 400, n_users=8)
    shop.patterns = np.zeros(400, np.int32)
    shop.patterns[-1] = 1
    shop.vectors[:] = np.arange(1, 401)[:, None]
    shop.users[:] = 1
    shop.users[:2] = -1  # the two see the outfit of the other pattern last
    shop.max_pattern = 3
    found = shop.fill(4)
    # Seven users are content with eight places each; all others of the first two are alike.
    assert not found.short.any()
    assert shop.asked == [(8, 8), (2, 16), (2, 32), (2, 64), (2, 128), (2, 256), (2, 400)]


def test_where_no_candidate_can_join_the_search_stops() -> None:
    shop = draw(6, 3000, n_users=5)
    shop.max_pattern = 2
    found = shop.fill(20)
    assert {len(mine) for mine in rows(found.outfits)} == {8}  # four patterns, two of each
    assert found.counts[SHORT_BY_CAPS] == 5
    assert max(depth for _, depth in shop.asked) < 100


def test_few_items_of_one_kind_stop_the_search_too() -> None:
    shop = draw(10, 3000, n_users=5, n_items=300)
    shop.items[:, 2] = 300 + np.arange(3000) % 4  # all wear one of four pairs of shoes
    shop.max_item = 2
    found = shop.fill(20)
    assert {len(mine) for mine in rows(found.outfits)} == {8}
    assert max(depth for _, depth in shop.asked) < 100


def test_users_are_searched_in_blocks_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = draw(7, 90, n_users=30)
    shop.strength, shop.pool, shop.max_item = 0.3, 20, 2
    whole = shop.fill(12)
    monkeypatch.setattr(module, "PLACES_PER_SEARCH", 100)
    monkeypatch.setattr(module, "_VECTORS_PER_BLOCK", 7)
    shop.asked.clear()
    parts = shop.fill(12)
    np.testing.assert_array_equal(parts.outfits, whole.outfits)
    np.testing.assert_array_equal(parts.scores, whole.scores)
    assert parts.counts == whole.counts
    assert max(users * depth for users, depth in shop.asked) <= 100


def test_several_threads_choose_the_same() -> None:
    shop = draw(8, 80, n_users=40)
    shop.strength, shop.pool, shop.max_item, shop.max_pattern = 0.5, 30, 3, 5
    outfits, scores = shop.ranking()
    variety, caps = shop.variety, shop.caps
    expected = choose_lists(outfits, scores, 15, variety, caps)
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(
            lambda _: choose_lists(outfits, scores, 15, variety, caps), range(12)
        ):
            np.testing.assert_array_equal(found.outfits, expected.outfits)


def test_nobody_and_nothing_to_recommend() -> None:
    shop = draw(9, 5)
    shop.max_item = 1
    nothing = fill_lists(shop.search, 3, ListPlan(4, np.empty(0, np.int64), None, shop.caps))
    assert (nothing.outfits == -1).all()
    assert nothing.counts[SHORT_BY_CANDIDATES] == 3
    nobody = fill_lists(shop.search, 0, ListPlan(4, np.arange(5), None, shop.caps))
    assert nobody.outfits.shape == (0, 4)
    assert not shop.asked
