"""Parts and negatives that a data set brings along, from its files to the catalog's arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjob.catalog.catalog import ANY_VALIDATION, NO_PART
from recjob.catalog.dense_tables import to_catalog
from recjob.catalog.given_negatives import given_negatives, liked_negatives
from recjob.catalog.tables import FolderTables, read_folder
from recjob.errors import DataError
from recjob.settings import CatalogSettings

FILES = {
    "items": "item_id,category,image\n"
    + "".join(f"{item},top,{item}.jpg\n" for item in ("a", "b", "c", "d")),
    "outfits": "outfit_id,item_ids\no1,a|b\no2,c\no3,b|a|c\n",
    "interactions": (
        "user_id,outfit_id,part\nu2,o3,validation\nu1,o2,train\nu1,o1,test\nu2,o1,\n"
        "u2,o2,validation-student\n"
    ),
    "negatives": (
        "user_id,outfit_id,item_ids,kind\nu2,o3,c|d,hard\nu1,o1,a|d,\nu1,o1,d,hard\n"
        "u1,o1,c,random\nu2,o3,a|d,random\n"
    ),
}


def read(folder: Path, **changed: str) -> FolderTables:
    for name, text in {**FILES, **changed}.items():
        (folder / f"{name}.csv").write_text(text)
    return read_folder(folder, CatalogSettings(max_items_per_outfit=3))


def test_parts(tmp_path: Path) -> None:
    tables = read(tmp_path)
    assert tables.interactions["part"].to_pylist() == [
        "validation",
        "train",
        "test",
        None,
        "validation-student",
    ]
    catalog = to_catalog(tables, ["x"] * 4)
    assert catalog.positives.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]]
    assert catalog.positive_part is not None
    assert catalog.positive_part.tolist() == [3, 0, NO_PART, 2, ANY_VALIDATION]
    assert catalog.positive_at is None


def test_times_stand_with_their_positives(tmp_path: Path) -> None:
    text = "user_id,outfit_id,at\nu2,o1,1970-01-02\nu1,o2,\nu1,o1,1970-01-01T00:00:00.000007Z\n"
    catalog = to_catalog(
        read(tmp_path, interactions=text, negatives="user_id,outfit_id,item_ids\nu1,o1,c\n"),
        ["x"] * 4,
    )
    assert catalog.positives.tolist() == [[0, 0], [0, 1], [1, 0]]
    assert catalog.positive_at is not None
    assert catalog.positive_at.tolist() == [7, -(2**63), 86_400_000_000]
    assert catalog.positive_part is None


def test_negatives_in_the_order_of_their_positives(tmp_path: Path) -> None:
    tables = read(tmp_path)
    # u1 likes o2, that is {c}, so the fourth row is no negative.
    assert liked_negatives(tables).tolist() == [False, False, False, True, False]
    catalog = to_catalog(tables, ["x"] * 4)
    given = given_negatives(catalog, tables)
    assert given.positive.tolist() == [0, 0, 0, 4, 4]
    assert given.hard.tolist() == [False, True, False, True, False]
    assert given.items.tolist() == [[0, 3, -1], [3, -1, -1], [2, -1, -1], [2, 3, -1], [0, 3, -1]]
    assert given.items.dtype == np.int32


def test_a_set_of_items_counts_whatever_its_order(tmp_path: Path) -> None:
    text = FILES["negatives"].replace("u2,o3,c|d,", "u2,o3,c|b|a,")
    assert liked_negatives(read(tmp_path, negatives=text)).tolist()[0]


def test_parquet_with_lists(tmp_path: Path) -> None:
    expected = read(tmp_path).negatives
    (tmp_path / "negatives.csv").unlink()
    columns = {name: expected[name] for name in ("user_id", "outfit_id", "item_ids", "kind")}
    pq.write_table(pa.table(columns), tmp_path / "negatives.parquet")
    assert read_folder(tmp_path, CatalogSettings()).negatives.equals(expected)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("interactions", "train", "Train", "line 3, column part: 'Train' is none of train, valid"),
        (
            "interactions",
            "u2,o1,\n",
            "u2,o1,\nu1,o1,train\n",
            "line 6, column part: 'train', but the same user and outfit are in 'test' before",
        ),
        ("negatives", "u1,o1,a|d,", "u1,o1,a|d,soft", "line 3, column kind: 'soft' is none of"),
        ("negatives", "a|d,\n", "a|a,\n", "line 3, column item_ids: item 'a' is there twice"),
        ("negatives", "a|d,\n", "e,\n", "line 3, column item_ids: unknown item 'e'"),
        ("negatives", "a|d,\n", ",\n", "line 3, column item_ids: an outfit needs at least one"),
        ("negatives", "a|d,\n", "a|b|c|d,\n", "line 3, column item_ids: 4 items where at most 3"),
        (
            "negatives",
            "u1,o1,a|d",
            "u1,o3,a|d",
            "line 3, column outfit_id: user 'u1' has no interaction with outfit 'o3'",
        ),
        ("negatives", "u1,o1,a|d", "u7,o1,a|d", "user 'u7' has no interaction with outfit 'o1'"),
        ("negatives", "kind", "sort", "unknown column 'sort'"),
    ],
)
def test_mistakes(tmp_path: Path, file: str, old: str, new: str, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, **{file: FILES[file].replace(old, new, 1)})
    assert expected in str(caught.value)
    assert f"{file}.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_repeated_row_keeps_the_part_that_one_of_them_names(tmp_path: Path) -> None:
    text = "user_id,outfit_id,part\nu1,o1,\nu1,o1,test\nu2,o3,test\nu1,o1,\n"
    tables = read(tmp_path, interactions=text)
    assert tables.interactions["part"].to_pylist() == ["test", "test"]
