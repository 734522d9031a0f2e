"""Polyvore-U written again is the released files to the byte; what has no place is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recjob.catalog.picture_source import FolderPictures
from recjob.catalog.polyvore import read_polyvore
from recjob.catalog.polyvore_writer import write_polyvore
from recjob.catalog.tables import (
    INTERACTIONS_SCHEMA,
    ITEMS_SCHEMA,
    NEGATIVES_SCHEMA,
    OUTFITS_SCHEMA,
    USERS_SCHEMA,
    FolderTables,
)
from recjob.errors import DataError
from tests.catalog.polyvore_trees import write_tree

LEFT_OUT = {"fill_in_blank_test", "semantic.npy"}


@pytest.mark.parametrize("users", [630, 519])
def test_files_come_out_as_they_were(users: int, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "old", users)
    names = write_polyvore(read_polyvore(tree.folder, users), tmp_path / "new", users)
    old = {path.name: path.read_bytes() for path in tree.home.iterdir()}
    new = {path.name: path.read_bytes() for path in (tmp_path / "new" / tree.home.name).iterdir()}
    assert new == {name: content for name, content in old.items() if name not in LEFT_OUT}
    assert all(before == after for before, after in names.items())


def test_the_later_form_becomes_the_released_one(tmp_path: Path) -> None:
    later = write_tree(tmp_path / "later", 32, "later")
    released = write_tree(tmp_path / "released", 32)
    write_polyvore(read_polyvore(later.folder, 32), tmp_path / "new", 32)
    for name in released.rows:
        written = (tmp_path / "new" / "tuples_32" / name).read_bytes()
        assert written == (released.home / name).read_bytes()


def shop(folder: Path) -> FolderTables:
    """Two users, two outfits, of a shop that has other names for things."""
    items = [
        ("i1", "top", "x/one.jpg"),
        ("i2", "bottom", "x/two.jpg"),
        ("i3", "shoes", "y/three.jpg"),
        ("i4", "top", "four.jpg"),
        ("i5", "shoes", "five.jpg"),
    ]
    likes = [("zoe", "a", "train"), ("ann", "b", "validation-student"), ("ann", "a", "test")]
    users, outfits, parts = map(list, zip(*likes, strict=True))
    negatives = [("ann", "a", ["i5", "i4", "i2"], "hard"), ("ann", "b", ["i2", "i1", "i3"], "hard")]
    return FolderTables(
        folder=folder,
        items=pa.table(
            [*map(list, zip(*items, strict=True)), [True] * 5, ["{}"] * 5], schema=ITEMS_SCHEMA
        ),
        outfits=pa.table(
            [["b", "a", "c"], [["i3", "i4", "i2", "i1"], ["i2", "i5", "i1"], ["i1"]], [True] * 3],
            schema=OUTFITS_SCHEMA,
        ),
        interactions=pa.table(
            [users, outfits, [None] * 3, parts],
            schema=INTERACTIONS_SCHEMA,
        ),
        users=USERS_SCHEMA.empty_table(),
        negatives=pa.table([*map(list, zip(*negatives, strict=True))], schema=NEGATIVES_SCHEMA),
        pictures=FolderPictures(folder),
    )


def test_a_shop(tmp_path: Path) -> None:
    names = write_polyvore(shop(tmp_path), tmp_path / "new", None)
    home = tmp_path / "new" / "tuples_2"
    assert {path.name: path.read_text() for path in home.iterdir()} == {
        "image_list_top": "one.jpg\nfour.jpg\n",
        "image_list_bottom": "two.jpg\n",
        "image_list_shoe": "three.jpg\nfive.jpg\n",
        # Users by their ids: ann 0, zoe 1; tops in the order of the outfit.
        "tuples_train_posi": "user,top,top,bottom,shoe\n1,0,-1,0,1\n",
        "tuples_val_posi": "user,top,top,bottom,shoe\n0,1,0,0,0\n",
        "tuples_val_nega_hard": "user,top,top,bottom,shoe\n0,0,-1,0,0\n",
        "tuples_test_posi": "user,top,top,bottom,shoe\n0,0,-1,0,1\n",
        "tuples_test_nega_hard": "user,top,top,bottom,shoe\n0,1,-1,0,1\n",
    }
    assert names["y/three.jpg"] == "images/291x291/three.jpg"


def with_items(tables: FolderTables, column: str, item: str, value: str) -> FolderTables:
    place = tables.items.schema.get_field_index(column)
    values = pc.if_else(pc.equal(tables.items["item_id"], item), value, tables.items[column])
    return replace(tables, items=tables.items.set_column(place, column, values))


def test_what_has_no_place_is_refused(tmp_path: Path) -> None:
    good = shop(tmp_path)
    lists = good.outfits["item_ids"].to_pylist()
    column = good.interactions.schema.get_field_index("part")

    def with_lists(first: list[str]) -> FolderTables:
        values = pa.array([first, *lists[1:]], pa.list_(pa.string()))
        return replace(good, outfits=good.outfits.set_column(1, "item_ids", values))

    def with_parts(*parts: str | None) -> FolderTables:
        values = pa.array(parts, pa.string())
        return replace(good, interactions=good.interactions.set_column(column, "part", values))

    few = replace(good, negatives=pa.concat_tables([good.negatives, good.negatives.slice(0, 1)]))
    cases = {
        "item 'i2': is of category 'bag'": with_items(good, "category", "i2", "bag"),
        "item 'i2': its picture 'two.png' has no plain name": with_items(
            good, "image", "i2", "two.png"
        ),
        "two pictures are called 'one.jpg'": with_items(good, "image", "i4", "z/one.jpg"),
        "two items, both top, have the picture 'one.jpg'": with_items(
            good, "image", "i4", "x/one.jpg"
        ),
        "outfit 'b': i2, i3 do not fit": with_lists(["i2", "i3"]),
        "outfit 'b': i1, i4, i2, i3, i5 do not fit": with_lists(["i1", "i4", "i2", "i3", "i5"]),
        "user 'ann', outfit 'b': has no part": with_parts("train", None, "test"),
        "no interaction has the part train": with_parts("test", "test", "test"),
        "has no interactions": replace(good, interactions=INTERACTIONS_SCHEMA.empty_table()),
        "a positive has 1 hard negatives and another of its part 2": replace(
            few, interactions=with_parts("train", "test", "test").interactions
        ),
    }
    for message, tables in cases.items():
        with pytest.raises(DataError) as caught:
            write_polyvore(tables, tmp_path / "new", None)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="has 2 users, more than the 1 of --users"):
        write_polyvore(good, tmp_path / "new", 1)
    assert not (tmp_path / "new").exists()
