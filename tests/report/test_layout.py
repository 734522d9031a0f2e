from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recjob.report.layout import MOST_PER_ROW, rows, zone


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        ("top", "upper"),
        ("Tops", "upper"),
        ("T-Shirt", "upper"),
        ("sweatshirt", "upper"),
        ("winter_jacket", "upper"),
        ("dress shirt", "upper"),
        ("dress", "full"),
        ("jumpsuit", "full"),
        ("bottom", "lower"),
        ("sweatpants", "lower"),
        ("mini skirt", "lower"),
        ("shorts", "lower"),
        ("shoes", "feet"),
        ("ankle boots", "feet"),
        ("bag", "other"),
        ("laptop bag", "other"),
        ("", "other"),
        ("категория", "other"),
    ],
)
def test_where_a_category_is_worn(category: str, expected: str) -> None:
    assert zone(category) == expected


def lay(*categories: str) -> list[tuple[str, ...]]:
    return [row for _, row in rows(categories, lambda category: category)]


def test_top_over_bottom_over_shoes_in_any_order() -> None:
    assert lay("shoes", "bottom", "top") == [("top",), ("bottom",), ("shoes",)]


def test_two_tops_lie_side_by_side_as_given() -> None:
    assert lay("jacket", "shoes", "shirt", "skirt") == [("jacket", "shirt"), ("skirt",), ("shoes",)]


def test_a_bag_lies_beside_the_shoes_or_alone() -> None:
    assert lay("bag", "dress", "sandals") == [("dress",), ("sandals", "bag")]
    assert lay("bag", "dress") == [("dress",), ("bag",)]


def test_a_full_row_is_split_evenly() -> None:
    assert lay("a", "b", "c", "d") == [("a", "b"), ("c", "d")]
    assert lay("a", "b", "c", "d", "e", "f", "g") == [("a", "b", "c"), ("d", "e", "f"), ("g",)]


@given(st.lists(st.sampled_from(["top", "dress", "bottom", "shoes", "bag", "?"]), max_size=16))
def test_every_item_is_shown_once(categories: list[str]) -> None:
    found = rows(list(enumerate(categories)), lambda pair: pair[1])
    assert sorted(item for _, row in found for item in row) == list(enumerate(categories))
    assert all(1 <= len(row) <= MOST_PER_ROW for _, row in found)
