import numpy as np
import pytest

from recjob.catalog.catalog import BoolArray
from recjob.errors import SettingsError
from recjob.ranking.candidates import candidates, check_rules, usable_items, wanted_attributes
from recjob.settings import RuleSettings, load_settings
from tests.ranking.catalogs import catalog


def test_each_reason_is_counted_once_and_the_rest_may_be_recommended() -> None:
    shop = catalog(
        [[0, 1], [2], [3, 4], [5, 0], [1, 5], [], [2, 3, 5], [0, 1, 2]],
        unavailable_items=(4,),
        quarantined_items=(5,),
        unavailable_outfits=(1, 6),
    )
    found = candidates(shop)
    assert found.indices.tolist() == [0, 7]
    assert found.filtered == {
        "unavailable outfit": 2,  # 1, and 6, whose quarantined item counts no more
        "unavailable item": 1,
        "quarantined item": 2,
        "without items": 1,
    }
    assert found.count + sum(found.filtered.values()) == shop.n_outfits
    np.testing.assert_array_equal(found.mask, shop.outfit_recommendable)


def test_an_outfit_that_was_not_embedded_waits() -> None:
    found = candidates(catalog([[0], [1], [2]]), np.array([True, False, True]))
    assert found.indices.tolist() == [0, 2]
    assert found.filtered["without vector"] == 1


def test_padding_does_not_borrow_the_flags_of_the_last_item() -> None:
    shop = catalog([[0], [1, 2]], unavailable_items=(2,))
    assert candidates(shop).indices.tolist() == [0]


SHOP = catalog(
    [[0, 2, 4], [1, 2, 4], [0, 3, 4], [0, 2], [1, 3, 5], [2, 4]],
    unavailable_items=(5,),
    categories=("bag", "shoes", "top"),
    item_category=[2, 2, 1, 1, 0, 0],  # tops 0 and 1, shoes 2 and 3, bags 4 and 5
)
COLD = np.array([[True], [False], [False], [False], [False], [False]])
RED = np.array([[False], [False], [False], [True], [False], [False]])


@pytest.mark.parametrize(
    ("rules", "attributes", "left", "counts"),
    [
        ({}, None, [0, 1, 2, 3, 5], {}),
        (
            {"required_categories": ("top", "bag")},
            None,
            [0, 1, 2],
            {"without category top": 1, "without category bag": 1},
        ),
        ({"forbidden_categories": ("bag",)}, None, [3], {"with category bag": 4}),
        ({"required_attributes": ("season=cold",)}, COLD, [0, 2, 3], {"without season=cold": 2}),
        ({"forbidden_attributes": ("season=cold",)}, COLD, [1, 5], {"with season=cold": 3}),
        (  # An outfit counts once: 5 is without a top, and not cold besides.
            {
                "required_categories": ("bag", "top"),
                "required_attributes": ("season=cold",),
                "forbidden_attributes": ("colour=red",),
            },
            np.concatenate([COLD, RED], axis=1),
            [0],
            {
                "without category bag": 1,
                "without category top": 1,
                "without season=cold": 1,
                "with colour=red": 1,
            },
        ),
    ],
)
def test_rules_leave_outfits_out_and_say_why(
    rules: dict[str, tuple[str, ...]],
    attributes: BoolArray | None,
    left: list[int],
    counts: dict[str, int],
) -> None:
    found = candidates(SHOP, None, RuleSettings(**rules), attributes)
    assert found.indices.tolist() == left
    assert found.count + sum(found.filtered.values()) == SHOP.n_outfits
    always = {"unavailable outfit", "unavailable item", "quarantined item", "without items"}
    assert {name: n for name, n in found.filtered.items() if name not in always} == counts


def test_an_unknown_category_is_named_with_the_known_ones() -> None:
    check_rules(SHOP, RuleSettings(required_categories=("top",), forbidden_categories=("bag",)))
    with pytest.raises(
        SettingsError, match=r"rules\.forbidden_categories: .*'hat'.* bag, shoes, top"
    ):
        check_rules(SHOP, RuleSettings(forbidden_categories=("bag", "hat")))


def test_attributes_are_looked_up_in_the_order_of_their_columns() -> None:
    rules = RuleSettings(required_attributes=("a=1", "b=x=y"), forbidden_attributes=("c=2",))
    assert wanted_attributes(rules) == (("a", "1"), ("b", "x=y"), ("c", "2"))
    attributes = np.zeros((6, 3), np.bool_)
    attributes[4, 2] = attributes[1, 0] = True
    assert usable_items(SHOP, rules, attributes).tolist() == [True] * 4 + [False] * 2
    with pytest.raises(ValueError, match="do not fit 6 items and 3 attributes"):
        candidates(SHOP, None, rules, attributes[:, :2])
    with pytest.raises(ValueError, match="do not fit"):
        candidates(SHOP, None, rules)


def test_settings_refuse_an_attribute_without_name_or_value() -> None:
    for text in ("red", "=red", "colour="):
        with pytest.raises(SettingsError, match=f"{text}' must be written name=value"):
            load_settings(None, {"RECJOB_RULES__REQUIRED_ATTRIBUTES": f"a=b,{text}"})
