"""What a teacher judged goes out as CSV, and comes back with the truth."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from recjob.catalog.catalog import PADDING
from recjob.catalog.judged_files import read_truth, write_judged
from recjob.errors import DataError, NotFoundError, UserError
from tests.catalog.shops import random_shop

CATALOG = random_shop(np.random.default_rng(1), quarantined=1)
BAD = int(np.flatnonzero(~CATALOG.item_usable)[0])
GOOD = [item for item in range(CATALOG.n_items) if item != BAD]
USERS = np.array([3, 0, 3], np.int32)
ITEMS = np.array(
    [[GOOD[0], PADDING, GOOD[2], PADDING], [*GOOD[4:7], PADDING], [*GOOD[:4]]], np.int32
)


def written(tmp_path: Path) -> Path:
    path = tmp_path / "judged.csv"
    scores, d = np.array([0.5, -0.25, 0.125], np.float32), np.array([-1, 2, 0.5], np.float32)
    write_judged(path, CATALOG, USERS, ITEMS, scores, d)
    return path


def with_truth(tmp_path: Path, column: str, *values: str) -> Path:
    rows = list(csv.reader(written(tmp_path).read_text().splitlines()))
    path = tmp_path / "truth.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [*row, value] for row, value in zip(rows, (column, *values), strict=True)
        )
    return path


def test_what_is_written(tmp_path: Path) -> None:
    rows = list(csv.DictReader(written(tmp_path).read_text().splitlines()))
    assert [row["user_id"] for row in rows] == ["u0003", "u0000", "u0003"]
    assert [row["item_ids"].split("|") for row in rows] == [
        [CATALOG.item_ids[item] for item in outfit if item != PADDING] for outfit in ITEMS
    ]
    assert [float(row["teacher_score"]) for row in rows] == [0.5, -0.25, 0.125]
    assert [float(row["d"]) for row in rows] == [-1, 2, 0.5]


@pytest.mark.parametrize(
    ("column", "values"),
    [("liked", ("true", "0", "FALSE")), ("utility", ("1e-3", "0", "-.5"))],
)
def test_there_and_back(column: str, values: tuple[str, ...], tmp_path: Path) -> None:
    found = read_truth(with_truth(tmp_path, column, *values), CATALOG)
    assert found.users.tolist() == USERS.tolist()
    assert found.liked.tolist() == [True, False, False]
    for row, outfit in zip(found.items, ITEMS, strict=True):
        assert sorted(row[row != PADDING]) == sorted(outfit[outfit != PADDING])


def test_parquet(tmp_path: Path) -> None:
    table = pa.table(
        {"user_id": ["u0001"], "item_ids": [[CATALOG.item_ids[GOOD[0]]]], "liked": [True]}
    )
    pyarrow.parquet.write_table(table, tmp_path / "truth.parquet")
    found = read_truth(tmp_path / "truth.parquet", CATALOG)
    assert (found.users.tolist(), found.liked.tolist()) == ([1], [True])
    assert found.items[0, 0] == GOOD[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,item_ids,liked\nnobody,i0000,true\n", "line 2, column user_id: unknown user"),
        ("user_id,item_ids,liked\nu0000,i9999,true\n", "line 2, column item_ids: .* is unknown"),
        (f"user_id,item_ids,liked\nu0000,i{BAD:04d},true\n", "or in quarantine"),
        ("user_id,item_ids,liked\nu0000,i0000,maybe\n", "'maybe' is neither true nor false"),
        ("user_id,item_ids,utility\nu0000,i0000,nan\n", "column utility: 'nan' is no number"),
        ("user_id,item_ids,utility\nu0000,i0000,\n", "column utility: '' is no number"),
        ("user_id,item_ids\nu0000,i0000\n", "liked .* or utility .* is needed"),
        ("user_id,item_ids,liked,utility\nu0000,i0000,true,1\n", "one of the two"),
        ("user_id,items,liked\nu0000,i0000,true\n", "unknown column 'items'"),
    ],
)
def test_rows_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(text.replace("i0000", CATALOG.item_ids[GOOD[0]]))
    with pytest.raises(DataError, match=message):
        read_truth(path, CATALOG)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        read_truth(tmp_path / "none.csv", CATALOG)
    with pytest.raises(UserError, match=r"a \.csv or a \.parquet file"):
        read_truth(tmp_path / "truth.txt", CATALOG)
    with pytest.raises(UserError, match="cannot be written"):
        write_judged(
            tmp_path / "none" / "judged.csv",
            CATALOG,
            USERS,
            ITEMS,
            np.zeros(3, "f"),
            np.zeros(3, "f"),
        )
