"""The import format: what is read, and each mistake named by file, line and column."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recjob.catalog.dense_tables import to_catalog
from recjob.catalog.tables import FolderTables, read_folder
from recjob.errors import DataError
from recjob.settings import CatalogSettings

ITEMS = "item_id,category,image\na,top,a.jpg\nb,bottom,b.jpg\nc,shoes,c.jpg\n"
OUTFITS = "outfit_id,item_ids\no1,a|b|c\no2,c|b\n"
INTERACTIONS = "user_id,outfit_id\nu1,o1\nu2,o1\nu1,o2\n"
LIMITS = CatalogSettings(max_items_per_outfit=3)
WITH_LIST = CatalogSettings(categories=("top", "bottom", "shoes"))


def write(folder: Path, **tables: str | bytes) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for name, text in tables.items():
        data = text if isinstance(text, bytes) else text.encode()
        (folder / f"{name}.csv").write_bytes(data)
    return folder


def good(folder: Path, **changed: str | bytes) -> Path:
    whole: dict[str, str | bytes] = {
        "items": ITEMS,
        "outfits": OUTFITS,
        "interactions": INTERACTIONS,
    }
    return write(folder, **{**whole, **changed})


def read(folder: Path, **known: Any) -> FolderTables:
    return read_folder(folder, LIMITS, **known)


def refusal(folder: Path, settings: CatalogSettings = LIMITS) -> str:
    with pytest.raises(DataError) as caught:
        read_folder(folder, settings)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_code == 2
    return message


def test_good_folder(tmp_path: Path) -> None:
    tables = read(good(tmp_path, users="user_id\nu1\nu9\nu9\n"))
    assert tables.items.to_pylist()[0] == {
        "item_id": "a",
        "category": "top",
        "image": "a.jpg",
        "available": True,
        "attributes": "{}",
    }
    assert tables.outfits["item_ids"].to_pylist() == [["a", "b", "c"], ["c", "b"]]
    assert tables.interactions["at"].to_pylist() == [None, None, None]
    assert tables.users["user_id"].to_pylist() == ["u1", "u9"]


def test_files_from_other_programs(tmp_path: Path) -> None:
    """A byte order mark, Windows line ends, no line end at the end."""
    plain = read(good(tmp_path / "plain"))
    dressed = ("\ufeff" + ITEMS.replace("\n", "\r\n")).rstrip()
    assert read(good(tmp_path / "dressed", items=dressed)).items.equals(plain.items)
    message = refusal(good(tmp_path / "dressed", items=dressed + "\r\n,top,d.jpg"))
    assert "items.csv, line 5, column item_id" in message


def test_attributes_and_availability(tmp_path: Path) -> None:
    nasty = 'say "hi"\\\tto\nme'
    items = (
        'size,item_id,category,available,image,"the ""title"""\n'
        f'42,a,top,YES,a.jpg,"{nasty.replace(chr(34), chr(34) * 2)}"\n'
        ",b,bottom,0,b.jpg,Kleid für Ünal\n"
    )
    tables = read(write(tmp_path, items=items))
    assert tables.items["available"].to_pylist() == [True, False]
    assert [json.loads(text) for text in tables.items["attributes"].to_pylist()] == [
        {"size": "42", 'the "title"': nasty},
        {'the "title"': "Kleid für Ünal"},
    ]


def test_parquet_is_the_same_as_csv(tmp_path: Path) -> None:
    csv = good(
        tmp_path / "csv",
        items="item_id,category,image,available,size\n1,top,1.jpg,true,38\n2,shoes,2.jpg,false,\n",
        outfits="outfit_id,item_ids,available\n7,1|2,true\n",
        interactions="user_id,outfit_id,at\n5,7,2026-01-31T18:30:00Z\n6,7,\n",
    )
    parquet = tmp_path / "parquet"
    parquet.mkdir()
    pq.write_table(
        pa.table(
            {
                "item_id": pa.array([1, 2]),
                "category": pa.array(["top", "shoes"]).dictionary_encode(),
                "image": pa.array(["1.jpg", "2.jpg"], pa.large_string()),
                "available": [True, False],
                "size": pa.array([38, None]),
            }
        ),
        parquet / "items.parquet",
    )
    pq.write_table(
        pa.table({"outfit_id": ["7"], "item_ids": [[1, 2]], "available": [1]}),
        parquet / "outfits.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "user_id": ["5", "6"],
                "outfit_id": ["7", "7"],
                "at": pa.array([datetime(2026, 1, 31, 18, 30), None], pa.timestamp("ns")),
            }
        ),
        parquet / "interactions.parquet",
    )
    one, other = read(csv), read(parquet)
    for name in ("items", "outfits", "interactions", "users"):
        assert getattr(one, name).to_pylist() == getattr(other, name).to_pylist()
        assert getattr(one, name).schema == getattr(other, name).schema


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-01-31T18:30:00Z", datetime(2026, 1, 31, 18, 30, tzinfo=UTC)),
        ("2026-01-31 18:30:00", datetime(2026, 1, 31, 18, 30, tzinfo=UTC)),
        ("2026-01-31T18:30:00+02:00", datetime(2026, 1, 31, 16, 30, tzinfo=UTC)),
        ("2026-01-31 18:30:00.250-0330", datetime(2026, 1, 31, 22, 0, 0, 250000, tzinfo=UTC)),
        ("2026-01-31 18:30", datetime(2026, 1, 31, 18, 30, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("", None),
    ],
)
def test_times(tmp_path: Path, text: str, meant: datetime | None) -> None:
    rows = f"user_id,outfit_id,at\nu1,o1,{text}\nu2,o1,2026-02-01\n"
    assert read(good(tmp_path, interactions=rows)).interactions["at"].to_pylist()[0] == meant


def test_dates_in_parquet(tmp_path: Path) -> None:
    good(tmp_path)
    (tmp_path / "interactions.csv").unlink()
    table = pa.table({"user_id": ["u"], "outfit_id": ["o1"], "at": [date(2026, 1, 31)]})
    pq.write_table(table, tmp_path / "interactions.parquet")
    assert read(tmp_path).interactions["at"].to_pylist() == [datetime(2026, 1, 31, tzinfo=UTC)]


def test_identical_duplicates_are_merged(tmp_path: Path) -> None:
    tables = read(
        good(
            tmp_path,
            items=ITEMS + "b,bottom,b.jpg\n",
            outfits=OUTFITS + "o1,c|a|b\n",
            interactions=(
                "user_id,outfit_id,at\nu1,o1,2026-03-01\nu2,o1,\nu1,o1,2026-01-01\nu1,o1,\n"
            ),
        )
    )
    assert tables.items["item_id"].to_pylist() == ["a", "b", "c"]
    assert tables.outfits["outfit_id"].to_pylist() == ["o1", "o2"]
    assert tables.interactions.to_pylist() == [
        {"user_id": "u1", "outfit_id": "o1", "at": datetime(2026, 1, 1, tzinfo=UTC), "part": None},
        {"user_id": "u2", "outfit_id": "o1", "at": None, "part": None},
    ]


def test_what_the_database_knows_need_not_be_in_the_folder(tmp_path: Path) -> None:
    write(tmp_path, outfits="outfit_id,item_ids\nnew,x|y\n", interactions=INTERACTIONS + "u1,new\n")
    tables = read(tmp_path, known_items={"x": "top", "y": "shoes"}, known_outfits={"o1", "o2"})
    assert tables.outfits["outfit_id"].to_pylist() == ["new"]
    assert tables.interactions.num_rows == 4
    assert tables.items.num_rows == 0


MISTAKES: list[tuple[str, dict[str, str | bytes], list[str]]] = [
    (
        "missing column",
        {"items": "item_id,image\na,a.jpg\n"},
        ["items.csv", "column category is missing", "'item_id', 'image'"],
    ),
    (
        "column twice",
        {"users": "user_id,user_id\na,b\n"},
        ["users.csv", "'user_id' is there twice"],
    ),
    (
        "unknown column",
        {"outfits": "outfit_id,item_ids,availabel\no1,a|b,true\n"},
        ["outfits.csv", "'availabel'", "available"],
    ),
    ("nameless column", {"items": ",item_id,category,image\n0,a,top,x\n"}, ["items.csv", "''"]),
    ("empty file", {"items": ""}, ["items.csv", "is empty"]),
    ("no interactions", {"interactions": "user_id,outfit_id\n"}, ["interactions.csv: has no rows"]),
    ("no outfits", {"outfits": "outfit_id,item_ids\n"}, ["outfits.csv: has no rows"]),
    ("empty id", {"items": ITEMS + ",top,d.jpg\n"}, ["items.csv, line 5, column item_id", "empty"]),
    (
        "empty user",
        {"interactions": "user_id,outfit_id\nu1,o1\n,o2\n"},
        ["interactions.csv, line 3, column user_id"],
    ),
    (
        "control character",
        {"items": ITEMS + "d\x01,top,d.jpg\n"},
        ["items.csv, line 5, column item_id", r"'d\x01'"],
    ),
    (
        "NUL in an id",
        {"interactions": INTERACTIONS + "u\x00,o1\n"},
        ["interactions.csv, line 5, column user_id", "control"],
    ),
    (
        "line end in an id",
        {"interactions": INTERACTIONS + '"u\n",o1\n'},
        ["interactions.csv, line 5, column user_id", "control"],
    ),
    (
        "NUL in an attribute",
        {"items": "item_id,category,image,title\na,top,a.jpg,x\x00\n"},
        ["items.csv, line 2, column title"],
    ),
    (
        "unreadable boolean",
        {"items": "item_id,category,image,available\na,top,a.jpg,1\nb,top,b.jpg,perhaps\n"},
        ["items.csv, line 3, column available", "'perhaps'"],
    ),
    (
        "unreadable time",
        {"interactions": "user_id,outfit_id,at\nu1,o1,2026-01-01\nu2,o1,2026-13-01\nu3,o1,x\n"},
        ["interactions.csv, line 3, column at", "'2026-13-01'"],
    ),
    (
        "unreadable zone",
        {"interactions": "user_id,outfit_id,at\nu1,o1,2026-01-01 10:00Z\nu2,o1,10:00Z\n"},
        ["interactions.csv, line 3, column at", "'10:00Z'"],
    ),
    (
        "unknown item",
        {"outfits": OUTFITS + "o3,a|z\n"},
        ["outfits.csv, line 4, column item_ids", "unknown item 'z'"],
    ),
    (
        "no items",
        {"outfits": OUTFITS + "o3,\n"},
        ["outfits.csv, line 4, column item_ids", "at least one"],
    ),
    (
        "empty item",
        {"outfits": OUTFITS + "o3,a||b\n"},
        ["outfits.csv, line 4, column item_ids", "empty item id"],
    ),
    (
        "item twice",
        {"outfits": OUTFITS + "o3,b|a|b\n"},
        ["outfits.csv, line 4, column item_ids", "'b' is there twice"],
    ),
    (
        "too many items",
        {"items": ITEMS + "d,top,d.jpg\n", "outfits": OUTFITS + "o3,a|b|c|d\n"},
        ["outfits.csv, line 4, column item_ids", "4 items", "at most 3"],
    ),
    (
        "unknown outfit",
        {"interactions": INTERACTIONS + "u1,o9\n"},
        ["interactions.csv, line 5, column outfit_id", "unknown outfit 'o9'"],
    ),
    (
        "other content",
        {"items": ITEMS + "a,shoes,a.jpg\n"},
        ["items.csv, line 5, column item_id", "'a'", "items.csv, line 2"],
    ),
    (
        "other attribute",
        {"items": "item_id,category,image,size\na,top,a.jpg,1\na,top,a.jpg,2\n"},
        ["items.csv, line 3, column item_id"],
    ),
    (
        "outfit of other items",
        {"outfits": OUTFITS + "o1,a|b\n"},
        ["outfits.csv, line 4, column outfit_id", "'o1'"],
    ),
    ("short row", {"items": ITEMS + "d,top\n"}, ["items.csv, line 5", "2 columns", "header has 3"]),
    ("long row", {"interactions": INTERACTIONS + "u,o1,x\n"}, ["interactions.csv, line 5"]),
    (
        "ragged after a quoted line end",
        {"items": 'item_id,category,image,t\na,top,a.jpg,"x\ny"\nb,top,b.jpg\n'},
        ["items.csv, line 4", "3 columns"],
    ),
    (
        "open quote",
        {"items": ITEMS + '"d,top,d.jpg\n'},
        ["items.csv, line 5"],
    ),
    (
        "Latin-1",
        {"items": ITEMS.encode() + "ä,top,d.jpg\n".encode("latin-1")},
        ["items.csv, line 5", "UTF-8"],
    ),
    ("UTF-16", {"items": ITEMS.encode("utf-16")}, ["items.csv, line 1", "UTF-8"]),
    (
        "semicolons",
        {"items": ITEMS.replace(",", ";")},
        ["items.csv", "column item_id is missing", "'item_id;category;image'"],
    ),
    (
        "parent folder",
        {"items": ITEMS + "d,top,../../etc/passwd\n"},
        ["items.csv, line 5, column image", "'../../etc/passwd'", "out of the folder"],
    ),
    ("hidden parent", {"items": ITEMS + "d,top,x/../../y\n"}, ["items.csv, line 5, column image"]),
    (
        "absolute path",
        {"items": ITEMS + "d,top,/etc/passwd\n"},
        ["items.csv, line 5, column image"],
    ),
    ("drive", {"items": ITEMS + "d,top,C:\\x.jpg\n"}, ["items.csv, line 5, column image"]),
]


@pytest.mark.parametrize(
    ("changed", "expected"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_mistakes(tmp_path: Path, changed: dict[str, str | bytes], expected: list[str]) -> None:
    message = refusal(good(tmp_path, **changed))
    for part in expected:
        assert part in message


def test_categories_are_checked_where_the_settings_list_them(tmp_path: Path) -> None:
    good(tmp_path, items=ITEMS + "d,dress,d.jpg\ne,bag,e.jpg\n")
    message = refusal(tmp_path, WITH_LIST)
    assert "items.csv, line 5, column category" in message
    assert "'dress'" in message
    assert "(2 such rows)" in message
    assert read(tmp_path).items.num_rows == 5


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    assert "no such folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "not a folder" in refusal(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "holds no items" in refusal(tmp_path / "empty")


def test_two_files_for_one_table(tmp_path: Path) -> None:
    good(tmp_path)
    pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / "items.parquet")
    assert "both items.csv and items.parquet" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"item_id": [1.5], "category": ["t"], "image": ["i"]}, "column item_id: is double"),
        ({"item_id": ["a"], "category": [None], "image": ["i"]}, "row 1, column category"),
        (
            {"item_id": ["a", "b"], "category": ["t", "t"], "image": ["i", "/i"]},
            "row 2, column image",
        ),
        ({"item_id": ["a"], "category": ["t"]}, "column image is missing"),
        (
            {"item_id": ["a"], "category": ["t"], "image": ["i"], "available": [None]},
            "row 1, column available",
        ),
    ],
)
def test_mistakes_in_parquet(tmp_path: Path, table: dict[str, Any], expected: str) -> None:
    pq.write_table(pa.table(table), tmp_path / "items.parquet")
    message = refusal(tmp_path)
    assert "items.parquet" in message
    assert expected in message


def test_lists_in_parquet(tmp_path: Path) -> None:
    write(tmp_path, items=ITEMS)
    file = tmp_path / "outfits.parquet"
    for lists, expected in (
        ([["a"], []], "row 2, column item_ids: an outfit needs at least one item"),
        ([["a"], None], "row 2, column item_ids: an outfit needs at least one item"),
        ([["a"], ["b", None]], "row 2, column item_ids: empty item id"),
        ([["a"], ["b", "z"]], "row 2, column item_ids: unknown item 'z'"),
    ):
        pq.write_table(pa.table({"outfit_id": ["o1", "o2"], "item_ids": lists}), file)
        assert expected in refusal(tmp_path)
    file.write_bytes(b"PAR1 not really")
    assert "not a readable Parquet file" in refusal(tmp_path)


def test_links_that_leave_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.jpg").touch()
    folder = good(tmp_path / "folder", items="item_id,category,image\na,top,pics/x.jpg\n")
    (folder / "outfits.csv").write_text("outfit_id,item_ids\no1,a\no2,a\n")
    (folder / "pics").mkdir()
    (folder / "y.jpg").touch()
    link = folder / "pics" / "x.jpg"
    link.symlink_to(folder / "y.jpg")
    assert read(folder).items.num_rows == 1  # a link that stays inside is welcome
    link.unlink()
    link.symlink_to(outside / "x.jpg")
    assert "items.csv, line 2, column image" in refusal(folder)
    link.unlink()
    (folder / "pics").rmdir()
    (folder / "pics").symlink_to(outside)
    assert "items.csv, line 2, column image" in refusal(folder)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    titles=st.lists(
        st.text(
            st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from('\n,"'),
            max_size=8,
        ),
        min_size=1,
        max_size=12,
    ),
    blanks=st.lists(st.integers(0, 2), min_size=13, max_size=13),
    bad=st.integers(0, 11),
)
def test_any_text_comes_through_and_lines_are_right(
    tmp_path: Path, titles: list[str], blanks: list[int], bad: int
) -> None:
    """Against a plain count of line ends: rows with quotes, line ends and blank lines between."""
    rows, starts, text = [], [], "item_id,category,image,title\n"
    for number, title in enumerate(titles):
        text += "\n" * blanks[number]
        starts.append(text.count("\n") + 1)
        quoted = '"' + title.replace('"', '""') + '"'
        rows.append(f"i{number},top,i.jpg,{quoted}\n")
        text += rows[-1]
    write(tmp_path, items=text)
    read_back = [
        json.loads(a).get("title", "") for a in read(tmp_path).items["attributes"].to_pylist()
    ]
    assert read_back == titles
    bad = min(bad, len(titles) - 1)
    write(tmp_path, items=text.replace(f"i{bad},top,", f"i{bad},,", 1))
    assert f"line {starts[bad]}, column category" in refusal(tmp_path)


def test_to_catalog(tmp_path: Path) -> None:
    folder = good(
        tmp_path,
        items="item_id,category,image,available\nz,top,z,1\nb,shoes,b,0\na,bottom,a,1\n",
        outfits="outfit_id,item_ids,available\no2,z|b,true\no1,a,no\n",
        interactions="user_id,outfit_id\nu2,o1\nu1,o2\nu1,o1\n",
        users="user_id\nu0\nu2\n",
    )
    catalog = to_catalog(read(folder), ["hash-z", "", "hash-a"])
    assert catalog.categories == ("bottom", "shoes", "top")
    assert catalog.item_ids == ("a", "b", "z")
    assert catalog.item_category.tolist() == [0, 1, 2]
    assert catalog.item_image == ("hash-a", "", "hash-z")
    assert catalog.item_available.tolist() == [True, False, True]
    assert catalog.outfit_ids == ("o1", "o2")
    assert catalog.outfit_items.tolist() == [[0, -1], [2, 1]]
    assert catalog.outfit_available.tolist() == [False, True]
    assert catalog.user_ids == ("u0", "u1", "u2")
    assert catalog.positives.tolist() == [[1, 0], [1, 1], [2, 0]]
    assert catalog.outfit_usable.tolist() == [True, False]
    for array in (catalog.item_category, catalog.outfit_items, catalog.positives):
        assert array.dtype == np.int32


def test_to_catalog_needs_the_whole_shop(tmp_path: Path) -> None:
    write(tmp_path, outfits="outfit_id,item_ids\no1,x\n")
    with pytest.raises(DataError, match="item 'x' is not in this folder"):
        to_catalog(read(tmp_path, known_items=["x"]), [])


def test_wardrobe(wardrobe: Path, wardrobe_cold: Path) -> None:
    tables = read_folder(wardrobe, WITH_LIST)
    catalog = to_catalog(tables, ["hash"] * tables.items.num_rows)
    assert (catalog.n_items, catalog.n_outfits, catalog.n_users) == (4185, 16654, 220)
    assert catalog.outfit_items.shape == (16654, 3)
    assert np.bincount(catalog.item_category).tolist() == [1037, 371, 2777]
    with pytest.raises(DataError, match="unknown item"):
        read_folder(wardrobe_cold, WITH_LIST)
    cold = read_folder(wardrobe_cold, WITH_LIST, known_items=catalog.item_ids)
    assert cold.outfits.num_rows == 2282
