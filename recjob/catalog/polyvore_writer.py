"""Write tables in the layout of Polyvore-U: what `polyvore.read_polyvore` reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from recjob.catalog.catalog import PADDING, BoolArray, Int64Array
from recjob.catalog.polyvore import NEGATIVES, PARTS
from recjob.catalog.polyvore_files import (
    CATEGORIES,
    FIXED_HEADER,
    PICTURE_NAME,
    VARIABLE_HEADER,
)
from recjob.catalog.polyvore_outfits import PICTURE_FOLDER
from recjob.catalog.table_files import show
from recjob.catalog.tables import FolderTables
from recjob.errors import DataError

_CATEGORY_WORDS: Final = {"top": 0, "bottom": 1, "shoe": 2, "shoes": 2}
_PART_WORDS: Final = {
    **{word: place for place, word in enumerate(PARTS.values())},
    "validation-teacher": 1,
    "validation-student": 1,
}
_TRAIN: Final = 0
_NEEDS: Final = "Polyvore-U's layout holds one or two tops, one bottom and one pair of shoes"
_SECOND_TOP: Final = 1


@dataclass(frozen=True)
class _Numbers:
    """What the ids of the tables are in the files."""

    item_ids: pa.ChunkedArray
    category: Int64Array
    """(n_items,) index into `CATEGORIES`."""
    line: Int64Array
    """(n_items,) index in the image list of its category."""
    user_ids: pa.Array
    user: Int64Array
    """(n_users,)"""
    outfit_ids: pa.ChunkedArray

    def users(self, table: pa.Table) -> Int64Array:
        """(n,) index of the user of each row."""
        found: Int64Array = pc.index_in(table["user_id"], value_set=self.user_ids).to_numpy()
        return self.user[found]

    def pairs(self, table: pa.Table) -> Int64Array:
        """(n,) a number per user and outfit of each row."""
        found = pc.index_in(table["outfit_id"], value_set=self.outfit_ids)
        outfits: Int64Array = found.to_numpy().astype(np.int64)
        return outfits * int(self.user.max() + 1) + self.users(table)

    def tuples(self, lists: pa.ChunkedArray, name: Callable[[int], str]) -> Int64Array:
        """(n, 4) top, second top or -1, bottom and shoe of each list of item ids.

        Raises DataError for an outfit of other categories; `name` says which it is.
        """
        sizes = pc.list_value_length(lists).to_numpy().astype(np.int64)
        rows = np.repeat(np.arange(sizes.size), sizes)
        items = pc.index_in(pc.list_flatten(lists), value_set=self.item_ids).to_numpy()
        kinds = self.category[items]
        found = np.full((sizes.size, len(VARIABLE_HEADER) - 1), PADDING)
        fits = np.ones(sizes.size, dtype=np.bool_)
        for kind, (place, most) in enumerate(((0, 2), (2, 1), (3, 1))):
            chosen = np.flatnonzero(kinds == kind)
            owner = rows[chosen]
            count = np.bincount(owner, minlength=sizes.size)
            fits &= (count >= 1) & (count <= most)
            # Owners ascend, so that an item's number within its outfit is its distance from the
            # first of the outfit.
            number = np.arange(owner.size) - np.searchsorted(owner, owner)
            kept = number < most
            found[owner[kept], place + number[kept]] = self.line[items[chosen[kept]]]
        if not fits.all():
            row = int(np.argmin(fits))
            raise DataError(f"{name(row)}: {', '.join(lists[row].as_py())} do not fit; {_NEEDS}")
        return found


def write_polyvore(tables: FolderTables, folder: Path, users: int | None) -> dict[str, str]:
    """Write `tuples_<users>` into `folder`, and return where its pictures go, by their paths now.

    `users` is how many users there are, by default those with positives. Ids of users `630-17`
    give back the index 17; others are numbered in the order of their ids. Outfits that nobody
    likes, `at`, `available` and attributes have no place there.

    Raises DataError where the layout cannot hold the data.
    """
    if not tables.interactions.num_rows:
        raise DataError(f"{tables.folder}: has no interactions, of which the layout consists")
    category, names = _pictures(tables.items)
    user_ids = pc.unique(tables.interactions["user_id"])
    users = users or len(user_ids)
    numbers = _Numbers(
        item_ids=tables.items["item_id"],
        category=category,
        line=_lines(category),
        user_ids=user_ids,
        user=_user_numbers(user_ids, users, tables.folder),
        outfit_ids=tables.outfits["outfit_id"],
    )
    files = _files(tables, numbers)
    home = folder / f"tuples_{users}"
    home.mkdir(parents=True)
    for kind, word in enumerate(CATEGORIES):
        lines = names.filter(pa.array(category == kind)).to_pylist()
        (home / f"image_list_{word}").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    variable = any((rows[:, 1 + _SECOND_TOP] != PADDING).any() for rows in files.values())
    for name, rows in files.items():
        _write(home / name, rows, variable)
    new = pc.binary_join_element_wise(PICTURE_FOLDER, names, "/")
    return dict(zip(tables.items["image"].to_pylist(), new.to_pylist(), strict=True))


def _pictures(items: pa.Table) -> tuple[Int64Array, pa.ChunkedArray]:
    """Category (n_items,) and picture name of each item; DataError where they do not fit."""
    codes = pc.index_in(items["category"], value_set=pa.array(list(_CATEGORY_WORDS)))
    if codes.null_count:
        row = items.filter(pc.is_null(codes)).slice(0, 1).to_pylist()[0]
        raise DataError(
            f"item {show(row['item_id'])}: is of category {show(row['category'])}; {_NEEDS}"
        )
    category = np.array(list(_CATEGORY_WORDS.values()))[codes.to_numpy()]
    names = pc.replace_substring_regex(items["image"], r"^.*/", "")
    plain = pc.match_substring_regex(names, f"^(?:{PICTURE_NAME.pattern})$")
    if not pc.all(plain).as_py():
        row = items.filter(pc.invert(plain)).slice(0, 1).to_pylist()[0]
        raise DataError(
            f"item {show(row['item_id'])}: its picture {show(row['image'])} has no plain name that "
            "ends in .jpg, as Polyvore-U's layout needs"
        )
    images = pc.unique(items["image"])
    files = pc.replace_substring_regex(images, r"^.*/", "")
    _refuse_twice(files, "two pictures are called {}; rename one of them")
    for kind, word in enumerate(CATEGORIES):
        _refuse_twice(
            names.filter(pa.array(category == kind)),
            f"two items, both {word}, have the picture {{}}; Polyvore-U knows an item by it",
        )
    return category, names


def _refuse_twice(names: pa.ChunkedArray | pa.Array, problem: str) -> None:
    counts = pc.value_counts(names)
    again = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(again):
        raise DataError(problem.format(show(again[0]["values"].as_py())))


def _lines(category: Int64Array) -> Int64Array:
    """(n_items,) the line of each item in its image list."""
    index = np.empty(len(category), np.int64)
    for kind in range(len(CATEGORIES)):
        rows = np.flatnonzero(category == kind)
        index[rows] = np.arange(len(rows))
    return index


def _user_numbers(ids: pa.Array, users: int, folder: Path) -> Int64Array:
    """(n,) the index of each user."""
    if len(ids) > users:
        raise DataError(f"{folder}: has {len(ids)} users, more than the {users} of --users")
    names = ids.to_pylist()
    pattern = re.compile(rf"{users}-(0|[1-9][0-9]*)")
    found = [pattern.fullmatch(name) for name in names]
    numbers = [int(match[1]) for match in found if match]
    if len(numbers) == len(names) and max(numbers) < users:
        return np.array(numbers)
    return np.argsort(np.argsort(np.array(names)))


def _files(tables: FolderTables, numbers: _Numbers) -> dict[str, Int64Array]:
    """The rows (n, 5) user, top, second top or -1, bottom, shoe of every file that has some."""
    likes = tables.interactions
    words = pc.index_in(likes["part"], value_set=pa.array(list(_PART_WORDS)))
    if words.null_count:
        row = likes.filter(pc.is_null(words)).slice(0, 1).to_pylist()[0]
        raise DataError(
            f"user {show(row['user_id'])}, outfit {show(row['outfit_id'])}: has no part; the files "
            "of Polyvore-U are parts: add the column part to interactions"
        )
    places = np.array(list(_PART_WORDS.values()))[words.to_numpy()]
    if _TRAIN not in places:
        raise DataError(f"{tables.folder}: no interaction has the part train")
    outfits = pc.index_in(likes["outfit_id"], value_set=numbers.outfit_ids)
    rows = np.column_stack(
        [
            numbers.users(likes),
            numbers.tuples(
                tables.outfits["item_ids"].take(outfits),
                lambda row: f"outfit {show(likes['outfit_id'][row].as_py())}",
            ),
        ]
    )
    pairs = numbers.pairs(likes)
    files = {}
    for place, name in enumerate(PARTS):
        chosen = places == place
        if chosen.any():
            files[f"tuples_{name}_posi"] = rows[chosen]
            for kind, word in NEGATIVES.items():
                found = _negatives(tables, numbers, pairs[chosen], word)
                if len(found):
                    files[f"tuples_{name}_{kind}"] = found
    return files


def _negatives(
    tables: FolderTables, numbers: _Numbers, positives: Int64Array, kind: str
) -> Int64Array:
    """(n, 5) the negatives of a kind of `positives` (n,), pairs of user and outfit, in their order.

    Raises DataError where they are not equally many for every positive.
    """
    table = tables.negatives.filter(pc.equal(tables.negatives["kind"], kind))
    order = np.argsort(positives)
    pairs = numbers.pairs(table)
    at = np.minimum(np.searchsorted(positives, pairs, sorter=order), len(positives) - 1)
    chosen: BoolArray = positives[order[at]] == pairs
    owner = order[at[chosen]]
    table = table.filter(pa.array(chosen)).take(pa.array(np.argsort(owner, kind="stable")))
    counts = np.bincount(owner, minlength=len(positives))
    if counts.min() != counts.max():
        raise DataError(
            f"{tables.folder}: a positive has {counts.min()} {kind} negatives and another of its "
            f"part {counts.max()}; in Polyvore-U's files all have equally many"
        )
    tuples = numbers.tuples(
        table["item_ids"],
        lambda row: f"a negative of outfit {show(table['outfit_id'][row].as_py())}",
    )
    return np.column_stack([numbers.users(table), tuples])


def _write(path: Path, rows: Int64Array, variable: bool) -> None:
    if not variable:
        rows = np.delete(rows, 1 + _SECOND_TOP, axis=1)
    header = VARIABLE_HEADER if variable else FIXED_HEADER
    columns = {str(number): column for number, column in enumerate(rows.T)}
    with path.open("wb") as file:
        file.write((",".join(header) + "\n").encode())
        pyarrow.csv.write_csv(
            pa.table(columns), file, pyarrow.csv.WriteOptions(include_header=False)
        )
