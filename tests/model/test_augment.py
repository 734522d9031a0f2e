import pytest
import torch

from recjob.model.augment import augment_pair

NEIGHBOURS = torch.tensor([[1, 2], [0, 2], [0, 1], [4, -1], [3, -1], [-1, -1]])
"""Items 0 to 2 and 3 to 4 are two categories; item 5 has none like it."""
OUTFITS = torch.tensor([[0, 3, 5, -1], [2, 4, -1, -1], [1, -1, -1, -1]]).repeat(400, 1)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def altered(view: torch.Tensor) -> torch.Tensor:
    return view != OUTFITS


def test_erase_removes_exactly_one_item_but_never_the_last() -> None:
    first, second = augment_pair(OUTFITS, ("erase", "erase"), NEIGHBOURS, generator())
    several = (OUTFITS != -1).sum(dim=1) > 1
    for view in (first, second):
        assert (altered(view).sum(dim=1) == several.long()).all()
        assert (view[altered(view)] == -1).all()


@pytest.mark.parametrize("kind", ["erase", "replace"])
def test_two_equal_augmentations_alter_different_items(kind: str) -> None:
    pair = (kind, kind)
    first, second = augment_pair(OUTFITS, pair, NEIGHBOURS, generator())  # type: ignore[arg-type]
    assert not (altered(first) & altered(second)).any()
    # Every item of the outfits has its turn.
    changeable = (OUTFITS != -1) & ((OUTFITS != -1).sum(dim=1, keepdim=True) > 1)
    if kind == "replace":
        changeable &= OUTFITS != 5
    seen = (altered(first) | altered(second)).view(400, 3, 4).any(dim=0)
    assert (seen == changeable.view(400, 3, 4)[0]).all()


def test_replace_takes_every_neighbour_and_nothing_else() -> None:
    first, _ = augment_pair(OUTFITS, ("replace", "identity"), NEIGHBOURS, generator())
    changed = altered(first)
    for old, new in zip(OUTFITS[changed].tolist(), first[changed].tolist(), strict=True):
        assert new in NEIGHBOURS[old].tolist()
        assert new >= 0
    assert set(first[changed & (OUTFITS == 0)].tolist()) == {1, 2}
    assert (first[OUTFITS == 5] == 5).all()


def test_identity_changes_nothing_and_needs_a_partner() -> None:
    _, second = augment_pair(OUTFITS, ("erase", "identity"), NEIGHBOURS, generator())
    assert torch.equal(second, OUTFITS)
    with pytest.raises(ValueError, match="identity"):
        augment_pair(OUTFITS, ("identity", "identity"), NEIGHBOURS, generator())


def test_an_outfit_of_one_item_is_left_as_it_is() -> None:
    single = torch.tensor([[0, -1], [3, -1]])
    for pair in (("erase", "erase"), ("replace", "replace"), ("erase", "replace")):
        for view in augment_pair(single, pair, NEIGHBOURS, generator()):
            assert torch.equal(view, single)
    narrow = torch.tensor([[0], [3]])
    for view in augment_pair(narrow, ("erase", "replace"), NEIGHBOURS, generator()):
        assert torch.equal(view, narrow)


def test_padding_between_items_is_welcome() -> None:
    gappy = torch.tensor([[-1, 0, -1, 3]]).repeat(200, 1)
    first, second = augment_pair(gappy, ("erase", "erase"), NEIGHBOURS, generator())
    assert ((first != -1).sum(dim=1) == 1).all()
    assert ((second != -1).sum(dim=1) == 1).all()
    assert not torch.equal(first, second)


def test_the_same_seed_gives_the_same_views() -> None:
    one = augment_pair(OUTFITS, ("erase", "replace"), NEIGHBOURS, generator())
    two = augment_pair(OUTFITS, ("erase", "replace"), NEIGHBOURS, generator())
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
