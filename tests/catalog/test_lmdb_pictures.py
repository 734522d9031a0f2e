"""Pictures in LMDB: by name, from many threads, with nothing written beside them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from recjob.catalog.lmdb_file import LmdbFile
from recjob.catalog.lmdb_pictures import LmdbPictures
from recjob.catalog.picture_source import PictureSource, RefusedPictureError
from recjob.errors import DataError
from tests.catalog.polyvore_trees import write_lmdb

CONTENTS = {f"{number:040x}.jpg": bytes([number % 251]) * (number + 1) for number in range(300)}


def test_many_threads_read_what_was_packed(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "lmdb", CONTENTS)
    source: PictureSource = LmdbPictures(tmp_path / "lmdb")
    images = [f"images/291x291/{name}" for name in CONTENTS] * 5
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda image: source.read(image, 1000), images))
    assert read == [*CONTENTS.values()] * 5
    # Neither the data nor a lock beside them was written.
    assert [path.name for path in (tmp_path / "lmdb").iterdir()] == ["data.mdb"]


def test_one_file_may_be_opened_by_several(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "lmdb", CONTENTS)
    first, second = LmdbPictures(tmp_path / "lmdb"), LmdbPictures(tmp_path / "lmdb")
    name = next(iter(CONTENTS))
    del first
    assert second.read(name, 1000) == CONTENTS[name]


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "lmdb", CONTENTS)
    source = LmdbPictures(tmp_path / "lmdb")
    for image in ("none.jpg", "", "images/", "n" * 1000):
        with pytest.raises(RefusedPictureError, match="no such picture"):
            source.read(image, 1000)
    with pytest.raises(RefusedPictureError, match=r"300 bytes are more than images.max_bytes"):
        source.read(f"{299:040x}.jpg", 299)


def test_files_that_are_not_whole(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "lmdb", CONTENTS)
    data = tmp_path / "lmdb" / "data.mdb"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"data.mdb: is cut short at \d+ of \d+ bytes"):
        LmdbPictures(tmp_path / "lmdb")
    data.write_bytes(b"something else" * 1000)
    with pytest.raises(DataError, match="is no LMDB file"):
        LmdbPictures(tmp_path / "lmdb")
    with pytest.raises(DataError, match="cannot be opened as LMDB"):
        LmdbPictures(tmp_path / "nowhere")


def test_it_finds_what_the_library_finds(tmp_path: Path) -> None:
    """Trees of one page to three levels, values inside of pages and outside, and what is absent."""
    rng = np.random.default_rng(0)
    for count in (0, 1, 1200):
        names = {f"{number:x}" * int(rng.integers(1, 30)) for number in range(count)}
        contents = {name: rng.bytes(int(rng.choice([0, 7, 900, 2500]))) for name in names}
        folder = tmp_path / str(count)
        write_lmdb(folder, contents)
        file = LmdbFile(folder / "data.mdb")
        for name in [*contents, "", "zz", "0", "a"]:
            found = file.find(name.encode())
            assert (None if found is None else file.read(*found)) == contents.get(name), name


def test_a_damaged_file_is_refused_and_nothing_dies(tmp_path: Path) -> None:
    """The library lmdb ends the process (SIGBUS, SIGABRT) on some of these."""
    write_lmdb(tmp_path / "lmdb", CONTENTS)
    data = tmp_path / "lmdb" / "data.mdb"
    whole = data.read_bytes()
    pages = [start for start in range(0, len(whole), 4096) if whole[start + 10] & 0b1011]
    refused = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        damaged = bytearray(whole)
        for start in rng.choice(pages, 40):
            damaged[start + int(rng.integers(256))] = rng.choice([0, 1, 127, 128, 255])
        data.write_bytes(damaged)
        try:
            source = LmdbPictures(data)
        except DataError:
            refused += 1
            continue
        for name in CONTENTS:
            try:
                source.read(name, 1000)
            except RefusedPictureError:
                refused += 1
    assert refused > 20
