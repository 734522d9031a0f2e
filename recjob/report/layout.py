"""How the items of an outfit lie on its card: top over bottom over shoes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

Zone = Literal["upper", "full", "lower", "feet", "other"]

PATTERNS: tuple[tuple[Zone, re.Pattern[str]], ...] = (
    (
        "upper",
        re.compile(
            r"\btops?\b|shirt|\btees?\b|blouse|sweater|jumper|hoodie|pullover|knit|polo\b|vest\b"
            r"|jacket|coat|blazer|cardigan|outerwear|longsleeve|body"
        ),
    ),
    ("full", re.compile(r"dress|gown|jumpsuit|overall|romper|suit\b|all-body")),
    ("lower", re.compile(r"bottom|trouser|pants?\b|jeans?\b|skirt|\bshorts?\b|legging|chino")),
    ("feet", re.compile(r"shoe|sneaker|trainer|boot|sandal|heel|loafer|slipper|footwear|\bflats")),
)
"""Words of a category that tell where it is worn; the first that fits decides."""

MOST_PER_ROW = 3
"""More garments side by side would be too small to see on a card."""

Item = TypeVar("Item")


def zone(category: str) -> Zone:
    """Where a category is worn; "other": bags, hats, jewellery and any name not known here."""
    name = category.lower().replace("_", " ")
    return next((zone for zone, pattern in PATTERNS if pattern.search(name)), "other")


def rows(
    items: Sequence[Item], category: Callable[[Item], str]
) -> tuple[tuple[Zone, tuple[Item, ...]], ...]:
    """The items in rows from head to foot, the order within a zone kept; no row is empty.

    A zone with more than `MOST_PER_ROW` items takes several rows. What is worn nowhere in
    particular lies beside the shoes.
    """
    by_zone: dict[Zone, list[Item]] = {}
    for item in items:
        by_zone.setdefault(zone(category(item)), []).append(item)
    if "feet" in by_zone and "other" in by_zone:
        by_zone["feet"] += by_zone.pop("other")
    order: tuple[Zone, ...] = ("upper", "full", "lower", "feet", "other")
    return tuple(
        (name, row) for name in order if name in by_zone for row in _even_rows(by_zone[name])
    )


def _even_rows(items: list[Item]) -> Iterator[tuple[Item, ...]]:
    count = math.ceil(len(items) / MOST_PER_ROW)
    per_row = math.ceil(len(items) / count)
    for start in range(0, len(items), per_row):
        yield tuple(items[start : start + per_row])
