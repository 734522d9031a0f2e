"""Which outfits may be recommended tonight, and why the others may not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, BoolArray, Catalog
from recjob.errors import SettingsError
from recjob.settings import RuleSettings

UNAVAILABLE_OUTFIT = "unavailable outfit"
UNAVAILABLE_ITEM = "unavailable item"
QUARANTINED_ITEM = "quarantined item"
WITHOUT_ITEMS = "without items"
WITHOUT_VECTOR = "without vector"

NO_RULES: Final = RuleSettings()
"""Nothing is required, nothing forbidden."""


@dataclass(frozen=True)
class Candidates:
    """The outfits that may be recommended."""

    mask: BoolArray
    """(n_outfits,) True where the outfit may be recommended."""
    filtered: dict[str, int]
    """Reason -> number of outfits left out; an outfit counts once, under its first reason."""

    @property
    def indices(self) -> NDArray[np.int64]:
        """(n,) the outfits that may be recommended, ascending."""
        return np.flatnonzero(self.mask)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(np.count_nonzero(self.mask))


def candidates(
    catalog: Catalog,
    has_vector: BoolArray | None = None,
    rules: RuleSettings = NO_RULES,
    attributes: BoolArray | None = None,
) -> Candidates:
    """The outfits of `catalog` that can be worn and bought, and that the rules allow.

    The counts and `mask` together cover every outfit once.

    Args:
        catalog: outfits, their items and what is available.
        has_vector: `(n_outfits,)` True where the outfit was embedded; None: everywhere.
        rules: required and forbidden categories and attributes; `check_rules` them first.
        attributes: `(n_items, n)` True where the item has each of `wanted_attributes(rules)`;
            None where there are none.
    """
    reasons = {
        UNAVAILABLE_OUTFIT: ~catalog.outfit_available,
        UNAVAILABLE_ITEM: _has_item(catalog, ~catalog.item_available),
        QUARANTINED_ITEM: _has_item(catalog, ~catalog.item_usable),
        WITHOUT_ITEMS: ~(catalog.outfit_items != PADDING).any(axis=1),
    }
    for name, flag in _required(catalog, rules, attributes).items():
        reasons[f"without {name}"] = ~_has_item(catalog, flag)
    for name, flag in _forbidden(catalog, rules, attributes).items():
        reasons[f"with {name}"] = _has_item(catalog, flag)
    if has_vector is not None:
        reasons[WITHOUT_VECTOR] = ~has_vector
    mask = np.ones(catalog.n_outfits, np.bool_)
    filtered = {}
    for reason, hit in reasons.items():
        filtered[reason] = int(np.count_nonzero(mask & hit))
        mask &= ~hit
    return Candidates(mask, filtered)


def wanted_attributes(rules: RuleSettings) -> tuple[tuple[str, str], ...]:
    """(name, value) of the attributes that `rules` require, then of those they forbid."""
    texts = (*rules.required_attributes, *rules.forbidden_attributes)
    pairs = (text.partition("=") for text in texts)
    return tuple((name, value) for name, _, value in pairs)


def check_rules(catalog: Catalog, rules: RuleSettings) -> None:
    """Raise SettingsError where `rules` name a category that no item of `catalog` has."""
    for key in ("required_categories", "forbidden_categories"):
        for name in getattr(rules, key):
            if name not in catalog.categories:
                raise SettingsError(
                    f"rules.{key}: no item has the category {name!r}; the catalog has "
                    f"{', '.join(catalog.categories) or 'none'}"
                )


def usable_items(catalog: Catalog, rules: RuleSettings, attributes: BoolArray | None) -> BoolArray:
    """(n_items,) available, not in quarantine, and nothing that `rules` forbid."""
    usable = catalog.item_available & catalog.item_usable
    for flag in _forbidden(catalog, rules, attributes).values():
        usable &= ~flag
    return usable


def required_items(
    catalog: Catalog, rules: RuleSettings, attributes: BoolArray | None
) -> list[BoolArray]:
    """`(n_items,)` each: of every one, an outfit must have an item."""
    return list(_required(catalog, rules, attributes).values())


def _required(
    catalog: Catalog, rules: RuleSettings, attributes: BoolArray | None
) -> dict[str, BoolArray]:
    """What an outfit must have, and `(n_items,)` which items have it."""
    flags = {f"category {name}": _of_category(catalog, name) for name in rules.required_categories}
    columns = _columns(catalog, rules, attributes)[: len(rules.required_attributes)]
    return flags | dict(zip(rules.required_attributes, columns, strict=True))


def _forbidden(
    catalog: Catalog, rules: RuleSettings, attributes: BoolArray | None
) -> dict[str, BoolArray]:
    """What an outfit must not have, and `(n_items,)` which items have it."""
    flags = {f"category {name}": _of_category(catalog, name) for name in rules.forbidden_categories}
    columns = _columns(catalog, rules, attributes)[len(rules.required_attributes) :]
    return flags | dict(zip(rules.forbidden_attributes, columns, strict=True))


def _columns(
    catalog: Catalog, rules: RuleSettings, attributes: BoolArray | None
) -> list[BoolArray]:
    """`(n_items,)` each, in the order of `wanted_attributes`."""
    wanted = wanted_attributes(rules)
    if attributes is None:
        attributes = np.zeros((catalog.n_items, 0), np.bool_)
    if attributes.shape != (catalog.n_items, len(wanted)):
        raise ValueError(
            f"attributes {attributes.shape} do not fit {catalog.n_items} items and {len(wanted)} "
            "attributes in the rules"
        )
    return list(attributes.T)


def _of_category(catalog: Catalog, name: str) -> BoolArray:
    """(n_items,) True where the item has the category."""
    return np.asarray(catalog.item_category == catalog.categories.index(name))


def _has_item(catalog: Catalog, flag: BoolArray) -> BoolArray:
    """(n_outfits,) True where an item of the outfit has `flag (n_items,)`."""
    # One place more, False, is what padding (-1) points to.
    return np.asarray(np.append(flag, False)[catalog.outfit_items].any(axis=1))
