from collections import Counter

import numpy as np

from recjob.ranking.rules import Caps, category_patterns
from recjob.settings import RuleSettings
from tests.ranking.catalogs import catalog


def test_a_pattern_is_the_multiset_of_the_categories() -> None:
    rng = np.random.default_rng(0)
    category = rng.integers(0, 3, 40).tolist()
    outfits = [rng.choice(40, rng.integers(1, 5), replace=False).tolist() for _ in range(300)]
    shop = catalog(outfits, categories=("bag", "shoes", "top"), item_category=category)
    kinds = [frozenset(Counter(category[i] for i in outfit).items()) for outfit in outfits]
    patterns = category_patterns(shop)
    assert patterns.dtype == np.int32
    assert set(patterns.tolist()) == set(range(len(set(kinds))))
    # A number for each kind, and a kind for each number.
    assert len(set(zip(kinds, patterns.tolist(), strict=True))) == len(set(kinds))


def test_caps_are_none_where_nothing_is_capped() -> None:
    items, patterns = np.array([[0, 7], [2, -1]], np.int32), np.array([1, 0], np.int32)
    assert Caps.of(RuleSettings(), items, patterns) is None
    by_item = Caps.of(RuleSettings(max_outfits_per_item=2), items, patterns)
    assert by_item is not None
    assert (by_item.n_items, by_item.n_patterns) == (8, 0)
    assert (by_item.max_outfits_per_item, by_item.max_per_pattern) == (2, 0)
    by_pattern = Caps.of(RuleSettings(max_per_category_pattern=3), items, patterns)
    assert by_pattern is not None
    assert (by_pattern.n_items, by_pattern.n_patterns) == (0, 2)
