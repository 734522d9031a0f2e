"""What comes from a shop or a data set: tables, Polyvore-U's files, LMDB, pictures."""

from __future__ import annotations

import csv
import io
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from hypothesis import strategies as st
from PIL import Image

from recjob.catalog.catalog import Catalog
from recjob.catalog.decode import decode, quiet_decoders
from recjob.catalog.dense_tables import to_catalog
from recjob.catalog.given_negatives import liked_negatives
from recjob.catalog.judged_files import read_truth
from recjob.catalog.lmdb_pictures import LmdbPictures
from recjob.catalog.picture_source import RefusedPictureError
from recjob.catalog.polyvore import read_polyvore
from recjob.catalog.table_parts import with_parts
from recjob.catalog.tables import FolderTables, read_folder
from recjob.errors import DataError
from recjob.settings import CatalogSettings, SplitSettings
from tests.catalog.polyvore_trees import write_lmdb, write_tree
from tests.fuzz.mutations import Columns, mutated_bytes, mutated_csv, mutated_parquet
from tests.fuzz.target import Target

TABLES: dict[str, Columns] = {
    "items": {
        "item_id": ["i1", "i2", "i3", "i4"],
        "category": ["top", "bottom", "shoes", "top"],
        "image": ["pictures/1.jpg", "pictures/2.jpg", "3.png", "4.png"],
        "available": ["true", "true", "yes", "0"],
        "colour": ["red", "", 'a "b"', "green"],
    },
    "outfits": {
        "outfit_id": ["o1", "o2", "o3"],
        "item_ids": [["i1", "i2", "i3"], ["i4", "i2"], ["i3"]],
        "available": ["true", "false", "1"],
    },
    "interactions": {
        "user_id": ["u1", "u1", "u2", "u3"],
        "outfit_id": ["o1", "o2", "o1", "o3"],
        "at": ["2026-01-31T18:30:00Z", "2026-01-31 18:30:00", "", "2026-01-31"],
        "part": ["train", "test", "", "validation"],
    },
    "users": {"user_id": ["u4", "u1"]},
    "negatives": {
        "user_id": ["u1", "u2"],
        "outfit_id": ["o1", "o1"],
        "item_ids": [["i4", "i3"], ["i2"]],
        "kind": ["random", "hard"],
    },
}
TRUTH: Columns = {
    "user_id": ["u1", "u2"],
    "item_ids": [["i1", "i2"], ["i3"]],
    "utility": ["0.5", "-1e3"],
}
PICTURE_SIDE = 64
MOST_PIXELS = 10_000


BESIDE = {"negatives": ("interactions",)}
"""Tables that a table is read with; other ids are said to be in the database."""


def importers(scratch: Path) -> tuple[Target, ...]:
    """The targets; their folders lie in `scratch`."""
    targets = [_whole_folder(scratch)]
    for name, columns in TABLES.items():
        for ending, write, mutate in (
            ("csv", csv_bytes, mutated_csv),
            ("parquet", parquet_bytes, mutated_parquet),
        ):
            folder = scratch / f"{name}-{ending}"
            folder.mkdir()
            for other in BESIDE.get(name, ()):
                (folder / f"{other}.csv").write_bytes(csv_bytes(TABLES[other]))
            seed = write(columns)
            targets.append(
                Target(
                    f"{name}.{ending}",
                    (seed,),
                    partial(_use_table, folder),
                    st.one_of(mutate(columns), mutated_bytes([seed])),
                    file=folder / f"{name}.{ending}",
                )
            )
    return (*targets, _truth(scratch), *_polyvore(scratch), _lmdb(scratch), *_pictures())


def csv_bytes(columns: Columns) -> bytes:
    """A table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow("|".join(cell) if isinstance(cell, list) else cell for cell in row)
    return text.getvalue().encode()


def parquet_bytes(columns: Columns) -> bytes:
    """A table as Parquet."""
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(dict(columns)), sink)
    return sink.getvalue()


def write_folder(folder: Path) -> None:
    """The valid tables as a folder of the import format."""
    for name, columns in TABLES.items():
        (folder / f"{name}.csv").write_bytes(csv_bytes(columns))


def use(tables: FolderTables) -> Catalog:
    """What work without a database does with an import."""
    liked_negatives(tables)
    parted = with_parts(tables, SplitSettings())
    return to_catalog(parted, ["hash"] * parted.items.num_rows)


def _use_table(folder: Path, _: bytes) -> None:
    items, outfits = TABLES["items"]["item_id"], TABLES["outfits"]["outfit_id"]
    tables = read_folder(folder, CatalogSettings(), items, outfits)
    liked_negatives(tables)


def _whole_folder(scratch: Path) -> Target:
    folder = scratch / "folder"
    folder.mkdir()
    write_folder(folder)
    seed = csv_bytes(TABLES["interactions"])
    return Target(
        "folder",
        (seed,),
        lambda _: use(read_folder(folder, CatalogSettings())),
        mutated_csv(TABLES["interactions"]),
        2,
        file=folder / "interactions.csv",
    )


def _truth(scratch: Path) -> Target:
    folder = scratch / "truth"
    folder.mkdir()
    write_folder(folder)
    catalog = use(read_folder(folder, CatalogSettings()))
    file = folder / "judged.csv"
    seed = csv_bytes(TRUTH)

    return Target(
        "truth.csv",
        (seed,),
        lambda _: read_truth(file, catalog),
        st.one_of(mutated_csv(TRUTH), mutated_bytes([seed])),
        4,
        file=file,
    )


def _polyvore(scratch: Path) -> list[Target]:
    targets = []
    forms: tuple[tuple[Literal["released", "later"], int], ...] = (("released", 630), ("later", 32))
    for form, users in forms:
        for name in ("image_list_top", "tuples_train_posi", "tuples_val_nega", "tuples_test_posi"):
            folder = scratch / f"polyvore-{users}-{name}"
            file = write_tree(folder, users, form).home / name
            seed = file.read_bytes()
            targets.append(
                Target(
                    f"polyvore {form} {name}",
                    (seed,),
                    partial(_use_polyvore, folder, users),
                    mutated_bytes([seed]),
                    3,
                    file=file,
                )
            )
    return targets


def _use_polyvore(folder: Path, users: int, _: bytes) -> None:
    use(read_polyvore(folder, users))


def _lmdb(scratch: Path) -> Target:
    names = [f"{number:02}.jpg" for number in range(12)]
    write_lmdb(scratch / "lmdb", {name: name.encode() * 90 * n for n, name in enumerate(names)})
    file = scratch / "lmdb" / "data.mdb"
    seed = file.read_bytes()

    def run(_: bytes) -> None:
        pictures = LmdbPictures(file.parent)
        refused = [reason for name in names if (reason := _why_not(pictures, name))]
        if refused:
            raise DataError(" ".join(refused))

    return Target("lmdb", (seed,), run, mutated_bytes([seed]), 6, file=file)


def _why_not(pictures: LmdbPictures, name: str) -> str:
    try:
        pictures.read(name, 10_000)
    except RefusedPictureError as error:
        return str(error)
    return ""


def _pictures() -> list[Target]:
    targets = []
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for kind, modes in {
        "JPEG": ("RGB", "L", "CMYK"),
        "PNG": ("RGB", "RGBA", "P", "1", "I;16"),
        "WEBP": ("RGB", "RGBA"),
        "GIF": ("P",),
        "BMP": ("RGB", "P"),
        "TIFF": ("RGB", "L", "I;16"),
    }.items():
        seeds = []
        for mode in modes:
            file = io.BytesIO()
            exif = Image.Exif()
            exif[0x0112] = 6
            picture = Image.fromarray(noise).convert("L" if mode == "I;16" else mode)
            if mode == "I;16":
                picture = picture.convert("I;16")
            picture.save(file, kind, exif=exif)
            seeds.append(file.getvalue())
        targets.append(
            Target(f"picture {kind}", tuple(seeds), _use_picture, mutated_bytes(seeds), 5)
        )
    return targets


def _use_picture(data: bytes) -> None:
    """A bad picture is no error of the import; its reason is told all the same."""
    try:
        with quiet_decoders():
            decode(data, PICTURE_SIDE, MOST_PIXELS)
    except RefusedPictureError as error:
        raise DataError(str(error)) from None
