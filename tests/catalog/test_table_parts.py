"""Tables that name no part get the split's; the same as the catalog's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recjob.catalog.dense_tables import to_catalog
from recjob.catalog.split import Part, split_parts
from recjob.catalog.table_parts import with_parts
from recjob.catalog.tables import FolderTables, read_folder
from recjob.errors import DataError
from recjob.settings import CatalogSettings, SplitSettings

WORDS = {
    Part.TRAIN: "train",
    Part.VALIDATION_TEACHER: "validation-teacher",
    Part.VALIDATION_STUDENT: "validation-student",
    Part.TEST: "test",
}


def shop(folder: Path) -> FolderTables:
    """40 outfits of two of 20 items, liked by five users in no order."""
    rng = np.random.default_rng(3)
    pairs = rng.permutation([(user, outfit) for user in range(5) for outfit in range(40)])[:120]
    items = "".join(f"i{item},top,a.jpg\n" for item in range(20))
    outfits = "".join(f"o{n},i{n % 20}|i{(n + 1 + n // 20) % 20}\n" for n in range(40))
    likes = "".join(f"u{user},o{outfit}\n" for user, outfit in pairs)
    for name, text in (
        ("items", "item_id,category,image\n" + items),
        ("outfits", "outfit_id,item_ids\n" + outfits),
        ("interactions", "user_id,outfit_id\n" + likes),
    ):
        (folder / f"{name}.csv").write_text(text)
    return read_folder(folder, CatalogSettings())


@pytest.mark.parametrize("settings", [SplitSettings(), SplitSettings(kind="item-disjoint")])
def test_parts_are_those_of_the_catalog(settings: SplitSettings, tmp_path: Path) -> None:
    tables = shop(tmp_path)
    catalog = to_catalog(tables, ["ab"] * 20)
    wanted = {
        (catalog.user_ids[user], catalog.outfit_ids[outfit]): WORDS[Part(part)]
        for (user, outfit), part in zip(
            catalog.positives, split_parts(catalog, settings), strict=True
        )
        if part >= 0
    }
    found = with_parts(tables, settings).interactions
    assert len(set(wanted.values())) == 4
    assert found.num_rows == len(wanted)
    assert {(row["user_id"], row["outfit_id"]): row["part"] for row in found.to_pylist()} == wanted


def test_what_the_data_say_stays(tmp_path: Path) -> None:
    tables = shop(tmp_path)
    parts = pa.array(["test", None] * 60, pa.string())
    given = FolderTables(
        tables.folder,
        tables.items,
        tables.outfits,
        tables.interactions.set_column(3, "part", parts),
        tables.users,
        tables.negatives,
        tables.pictures,
    )
    assert with_parts(given, SplitSettings()) is given
    with pytest.raises(DataError, match=r"split.kind is .files."):
        with_parts(tables, SplitSettings(kind="files"))
