"""Polyvore-U (U = 630, 519, 53 or 32 users) as tables of the import format.

```
DIR/tuples_630/   image_list_{top,bottom,shoe}, tuples_{train,val,test}_{posi,nega,nega_hard}
DIR/images/       291x291/*.jpg, or lmdb
```

Lists and tuples are read by `polyvore_files`; `fill_in_blank_test`, another task, is not read.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recjob.catalog.catalog import BoolArray, Int64Array
from recjob.catalog.lmdb_pictures import LmdbPictures
from recjob.catalog.picture_source import FolderPictures, PictureSource
from recjob.catalog.polyvore_files import CATEGORIES, Tuples, read_image_list, read_tuples
from recjob.catalog.polyvore_outfits import PICTURE_FOLDER, PolyvoreItems
from recjob.catalog.tables import (
    INTERACTIONS_SCHEMA,
    NEGATIVES_SCHEMA,
    OUTFITS_SCHEMA,
    USERS_SCHEMA,
    FolderTables,
)
from recjob.errors import DataError

PARTS: Final = {"train": "train", "val": "validation", "test": "test"}
"""A part's name in the files, and in our tables."""
NEGATIVES: Final = {"nega": "random", "nega_hard": "hard"}
"""A kind's name in the files, and in our tables."""
LMDB_FOLDER: Final = "images/lmdb"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Part:
    """The files of one part."""

    name: str
    positives: Tuples
    negatives: dict[str, Tuples]
    """By kind; row i belongs to positive i // (rows per positive)."""


def read_polyvore(folder: Path, users: int, training_negatives: bool = True) -> FolderTables:
    """Read and check the set of Polyvore-U with `users` users that lies in `folder`.

    An item's id is its picture's name without .jpg, a user's id `630-17`; outfits of equal items
    are one. A positive that the user has in a later part too is left out, with a warning: so the
    test part is whole, and nothing of it trains.
    Files of validation, test and negatives may be absent. Without `training_negatives`, those of
    the training part are checked and left out: training draws its own anew every epoch.

    Raises DataError with file, line and column of the first mistake.
    """
    home = _home(folder, users)
    pictures = _pictures(folder)
    lists = [read_image_list(home / f"image_list_{name}") for name in CATEGORIES]
    n_pictures = (len(lists[0]), len(lists[1]), len(lists[2]))
    items = PolyvoreItems.of_lists(lists)
    parts = [part for name in PARTS if (part := _part(home, name, users, n_pictures))]
    outfits = [items.outfit_rows(part.positives) for part in parts]
    ids = items.outfit_ids(outfits)
    codes = pc.index_in(ids, value_set=pc.unique(ids)).to_numpy().astype(np.int64)
    kept = _one_of_each(parts, codes)
    first = pa.array(np.sort(np.unique(codes, return_index=True)[1]))
    item_lists = pa.chunked_array([items.item_lists(rows) for rows in outfits])
    return FolderTables(
        folder=folder,
        items=items.table,
        outfits=pa.table(
            [ids.take(first), item_lists.take(first), pa.repeat(pa.scalar(True), len(first))],
            schema=OUTFITS_SCHEMA,
        ),
        interactions=_interactions(parts, ids, kept, users),
        users=USERS_SCHEMA.empty_table(),
        negatives=_negatives(parts, ids, kept, items, users, training_negatives),
        pictures=pictures,
    )


def _home(folder: Path, users: int) -> Path:
    home = folder / f"tuples_{users}"
    if home.is_dir():
        return home
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; name the one that holds tuples_{users}")
    found = ", ".join(sorted(path.name for path in folder.glob("tuples_*") if path.is_dir()))
    raise DataError(f"{home}: no such folder; {folder} holds {found or 'no tuples_*'}")


def _pictures(folder: Path) -> PictureSource:
    if (folder / PICTURE_FOLDER).is_dir():
        return FolderPictures(folder)
    if (folder / LMDB_FOLDER).exists():
        return LmdbPictures(folder / LMDB_FOLDER)
    raise DataError(
        f"{folder}: has no pictures; put them into {PICTURE_FOLDER}/*.jpg or {LMDB_FOLDER}"
    )


def _part(home: Path, name: str, users: int, n_pictures: tuple[int, int, int]) -> _Part | None:
    path = home / f"tuples_{name}_posi"
    files = {kind: home / f"tuples_{name}_{kind}" for kind in NEGATIVES}
    present = {kind: file for kind, file in files.items() if file.exists()}
    if not path.exists():
        if name == "train":
            raise DataError(f"{path}: no such file; training needs positives")
        if present:
            orphan = next(iter(present.values()))
            raise DataError(f"{path}: no such file; the negatives of {orphan.name} belong to it")
        return None
    positives = read_tuples(path, users, n_pictures)
    negatives = {kind: read_tuples(file, users, n_pictures) for kind, file in present.items()}
    for tuples in negatives.values():
        _refuse_misfit(positives, tuples)
    return _Part(name, positives, negatives)


def _refuse_misfit(positives: Tuples, negatives: Tuples) -> None:
    """Negatives belong to positives by their order alone, so that nothing may be missing."""
    count, rest = divmod(len(negatives), len(positives))
    if rest or not count:
        raise DataError(
            f"{negatives.place(len(negatives) - 1)}, column 1 (user): {len(negatives)} negatives "
            f"are no multiple of the {len(positives)} positives of {positives.path.name}"
        )
    due = np.repeat(positives.users, count)
    wrong = np.flatnonzero(negatives.users != due)
    if wrong.size:
        row = int(wrong[0])
        raise DataError(
            f"{negatives.place(row)}, column 1 (user): a negative of user {negatives.users[row]}, "
            f"but row {row // count + 1} of {positives.path.name}, to which it belongs, is of user "
            f"{due[row]}"
        )


def _one_of_each(parts: Sequence[_Part], codes: Int64Array) -> BoolArray:
    """(n,) whether a positive is the one that stays of its user and outfit.

    That is the first row of the last part with it; warns of those that go from the parts before.
    `codes` (n,) is a number per outfit of the positives of all parts.
    """
    users = np.concatenate([part.positives.users for part in parts])
    number = np.repeat(np.arange(len(parts)), [len(part.positives) for part in parts])
    pairs = users * (codes.max(initial=0) + 1) + codes
    order = np.argsort(-number, kind="stable")
    first, inverse = np.unique(pairs[order], return_index=True, return_inverse=True)[1:]
    stays = np.empty(len(pairs), np.int64)
    stays[order] = order[first[inverse]]
    for place, part in enumerate(parts):
        rows = np.flatnonzero((number[stays] != number)[number == place])
        if rows.size:
            log.warning(
                "%s: %d positives that their users have in a later part too are left out "
                "(the first: %s)",
                part.positives.path,
                rows.size,
                part.positives.place(int(rows[0])),
            )
    return np.asarray(stays == np.arange(len(pairs)))


def _interactions(
    parts: Sequence[_Part], ids: pa.ChunkedArray, kept: BoolArray, users: int
) -> pa.Table:
    words = [pa.repeat(pa.scalar(PARTS[part.name]), len(part.positives)) for part in parts]
    table = pa.table(
        [
            pa.chunked_array([_user_ids(part.positives.users, users) for part in parts]),
            ids,
            pa.nulls(len(ids), INTERACTIONS_SCHEMA.field("at").type),
            pa.chunked_array(words),
        ],
        schema=INTERACTIONS_SCHEMA,
    )
    return table.filter(pa.array(kept))


def _negatives(
    parts: Sequence[_Part],
    ids: pa.ChunkedArray,
    kept: BoolArray,
    items: PolyvoreItems,
    users: int,
    training: bool,
) -> pa.Table:
    """Those of the positives that are kept, by part and kind, in the files' order."""
    tables = [NEGATIVES_SCHEMA.empty_table()]
    ends = np.cumsum([len(part.positives) for part in parts])
    for part, part_ids, part_kept in zip(parts, ids.chunks, np.split(kept, ends[:-1]), strict=True):
        if part.name == "train" and not training:
            continue
        for kind, tuples in part.negatives.items():
            owner = np.repeat(np.arange(len(part.positives)), len(tuples) // len(part.positives))
            chosen = part_kept[owner]
            outfits = items.outfit_rows(tuples)[chosen]
            columns = [
                _user_ids(tuples.users[chosen], users),
                part_ids.take(pa.array(owner[chosen])),
                items.item_lists(outfits),
                pa.repeat(pa.scalar(NEGATIVES[kind]), len(outfits)),
            ]
            tables.append(pa.table(columns, schema=NEGATIVES_SCHEMA))
    return pa.concat_tables(tables)


def _user_ids(numbers: Int64Array, users: int) -> pa.Array:
    names = pa.array([f"{users}-{number}" for number in range(users)], pa.string())
    return names.take(pa.array(numbers))
