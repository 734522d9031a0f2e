"""Small trees in exactly the layout of Polyvore-U, in both forms, for tests to read and break."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CATEGORIES = ("top", "bottom", "shoe")
COUNTS = {"top": 9, "bottom": 7, "shoe": 8}
POSITIVES = {"train": 24, "val": 6, "test": 8}
PER_POSITIVE = 10
DRAWN_USERS = 5
"""Users who like something, of those whom the set is named after."""
KINDS = {"nega": "random", "nega_hard": "hard"}
PART_WORDS = {"train": "train", "val": "validation", "test": "test"}

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Tree:
    """What was written."""

    folder: Path
    users: int
    names: dict[str, list[str]]
    """Picture names by category."""
    rows: dict[str, IntArray]
    """By file name: user, top, second top or -1, bottom, shoe."""

    @property
    def home(self) -> Path:
        return self.folder / f"tuples_{self.users}"

    def outfit(self, row: IntArray) -> frozenset[str]:
        """Item ids of a row."""
        lists = ("top", "top", "bottom", "shoe")
        return frozenset(
            self.names[kind][index].removesuffix(".jpg")
            for kind, index in zip(lists, row[1:], strict=True)
            if index >= 0
        )

    def positives(self) -> list[tuple[str, frozenset[str], str]]:
        """User, items and part of every positive, in the files' order."""
        return [
            (f"{self.users}-{row[0]}", self.outfit(row), word)
            for part, word in PART_WORDS.items()
            for row in self.rows[f"tuples_{part}_posi"]
        ]

    def negatives(self) -> dict[tuple[str, frozenset[str], str], list[frozenset[str]]]:
        """By user and items of the positive, and kind: the negatives in the files' order."""
        return {
            (f"{self.users}-{row[0]}", self.outfit(row), KINDS[kind]): [
                self.outfit(negative)
                for negative in self.rows[f"tuples_{part}_{kind}"][10 * number : 10 * number + 10]
            ]
            for part in PART_WORDS
            for kind in KINDS
            for number, row in enumerate(self.rows[f"tuples_{part}_posi"])
        }


def write_tree(
    folder: Path,
    users: int = 630,
    form: Literal["released", "later"] = "released",
    packed: bool = False,
) -> Tree:
    """Write a set; 519 and 32 have outfits with two tops. `packed`: pictures in LMDB."""
    rng = np.random.default_rng(users)
    variable = users in (519, 32)
    names = {
        kind: [f"{hashlib.sha1(f'{kind}{n}'.encode()).hexdigest()}.jpg" for n in range(count)]
        for kind, count in COUNTS.items()
    }
    rows = draw_rows(rng, variable)
    tree = Tree(folder, users, names, rows)
    tree.home.mkdir(parents=True)
    for kind, lines in names.items():
        (tree.home / f"image_list_{kind}").write_text("".join(f"{line}\n" for line in lines))
    for name, values in rows.items():
        text = released(values, variable) if form == "released" else later(values, variable)
        (tree.home / name).write_text(text)
    (tree.home / "fill_in_blank_test").write_text("not ours to read\n")
    (tree.home / "semantic.npy").write_bytes(b"cos\nsystem\n(S'false'\ntR.")  # a pickle: never read
    write_pictures(folder / "images", [name for lines in names.values() for name in lines], packed)
    return tree


def draw_rows(rng: np.random.Generator, variable: bool) -> dict[str, IntArray]:
    """The rows of all files; no user has one set of items twice."""
    total = sum(POSITIVES.values())
    outfits = np.unique(draw_outfits(rng, 4 * total, variable), axis=0)
    outfits = rng.permutation(outfits)[:total]
    user = rng.integers(0, DRAWN_USERS, total)
    rows = {}
    start = 0
    for part, count in POSITIVES.items():
        chosen = slice(start, start + count)
        order = np.argsort(user[chosen], kind="stable")
        positives = np.column_stack([user[chosen], outfits[chosen]])[order]
        owner = np.repeat(positives[:, :1], PER_POSITIVE, axis=0)
        rows[f"tuples_{part}_posi"] = positives
        rows[f"tuples_{part}_nega"] = np.hstack([owner, draw_outfits(rng, len(owner), variable)])
        hard = outfits[rng.integers(0, total, len(owner))]
        rows[f"tuples_{part}_nega_hard"] = np.hstack([owner, hard])
        start += count
    return rows


def draw_outfits(rng: np.random.Generator, count: int, variable: bool) -> IntArray:
    """(count, 4) top, second top or -1, bottom, shoe."""
    columns = [rng.integers(0, COUNTS[kind], count) for kind in ("top", "top", "bottom", "shoe")]
    one_top = (rng.random(count) < 0.5) | (columns[0] == columns[1]) | (not variable)
    columns[1][one_top] = -1
    # The same two tops in the other order would be the same outfit.
    columns[0], columns[1] = (
        np.where(one_top, columns[0], np.minimum(columns[0], columns[1])),
        np.where(one_top, -1, np.maximum(columns[0], columns[1])),
    )
    return np.column_stack(columns)


def released(rows: IntArray, variable: bool) -> str:
    """CSV with a header."""
    kept = rows if variable else np.delete(rows, 2, axis=1)
    header = "user,top,top,bottom,shoe" if variable else "user,top,bottom,shoe"
    return "\n".join([header, *(",".join(map(str, row)) for row in kept)]) + "\n"


def later(rows: IntArray, variable: bool) -> str:
    """Rows of user, size, items and types without a header."""
    slots = 4 if variable else 3
    lines = []
    for user, *cells in rows.tolist():
        there = [(cell, kind) for cell, kind in zip(cells, (0, 0, 1, 2), strict=True) if cell >= 0]
        padding = [(-1, -1)] * (slots - len(there))
        items, types = zip(*there, *padding, strict=True)
        lines.append(",".join(map(str, (user, len(there), *items, *types))))
    return "\n".join(lines) + "\n"


def write_pictures(folder: Path, names: list[str], packed: bool) -> None:
    """A small JPEG of its own colour for each name."""
    contents = {name: jpeg(number) for number, name in enumerate(names)}
    if not packed:
        (folder / "291x291").mkdir(parents=True)
        for name, content in contents.items():
            (folder / "291x291" / name).write_bytes(content)
        return
    write_lmdb(folder / "lmdb", contents)


def write_lmdb(path: Path, contents: dict[str, bytes]) -> None:
    """An LMDB folder as the data's own script makes it; without the lock file, as copied."""
    import lmdb

    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        lmdb.open(str(path), map_size=2**30) as environment,
        environment.begin(write=True) as transaction,
    ):
        for name, content in contents.items():
            transaction.put(name.encode("ascii"), content)
    (path / "lock.mdb").unlink()


def jpeg(number: int) -> bytes:
    """A JPEG whose colour follows from a number."""
    file = io.BytesIO()
    colour = (number * 37 % 256, number * 91 % 256, number * 151 % 256)
    Image.new("RGB", (16, 12), colour).save(file, "JPEG", quality=95)
    return file.getvalue()
