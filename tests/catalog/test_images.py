"""Packed pictures: the store's promises, also when it is killed or shared."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recjob.catalog.images import PackedImages, pack_sizes
from recjob.catalog.picture_source import FolderPictures
from recjob.errors import DataError, SettingsError, TemporaryError
from recjob.settings import ImageSettings

SIZE = 32
SETTINGS = ImageSettings(workers=2)


def pictures(folder: Path, count: int, size: int = 40) -> list[str]:
    """Plain colours that differ by picture; PNG, so that the colour is exact."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number in range(count):
        name = f"{number:04d}.png"
        Image.new("RGB", (size, size), colour(number)).save(folder / name)
        names.append(name)
    return names


def colour(number: int) -> tuple[int, int, int]:
    return number % 256, number // 256, 77


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_pack_and_find(tmp_path: Path) -> None:
    names = pictures(tmp_path / "shop", 20)
    store = PackedImages.open(tmp_path / "store", SIZE)
    assert store.pixels.shape == (0, SIZE, SIZE, 3)
    progress: list[int] = []
    report = store.add(FolderPictures(tmp_path / "shop"), names, SETTINGS, progress.append)
    assert report.hashes == tuple(sha256(tmp_path / "shop" / name) for name in names)
    assert (report.bad, report.added, progress[-1]) == ((), 20, 20)
    for opened in (store, PackedImages.open(tmp_path / "store", SIZE)):
        rows = opened.rows(list(reversed(report.hashes)))
        assert rows.dtype == np.int64
        pixels = opened.pixels[rows]
        for number, square in zip(range(19, -1, -1), pixels, strict=True):
            assert (square == colour(number)).all()
        with pytest.raises(ValueError, match="read-only"):
            opened.pixels[0] = 0


def test_what_is_packed_is_not_decoded_again(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    names = pictures(shop, 5)
    (shop / "copy.png").write_bytes((shop / names[0]).read_bytes())
    store = PackedImages.open(tmp_path / "store", SIZE)
    report = store.add(FolderPictures(shop), [*names, "copy.png"], SETTINGS)
    assert report.added == 5
    assert report.hashes[5] == report.hashes[0]
    pixels = tmp_path / "store" / "pixels.u8"
    before = (pixels.stat().st_mtime_ns, pixels.read_bytes())
    again = store.add(FolderPictures(shop), [*names, "copy.png"], SETTINGS)
    assert again.hashes == report.hashes
    assert again.added == 0
    assert pixels.read_bytes() == before[1]


def test_bad_pictures_are_listed_and_the_good_ones_stay(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    names = pictures(shop, 2)
    (shop / "text.jpg").write_text("I am no picture")
    report = PackedImages.open(tmp_path / "store", SIZE).add(
        FolderPictures(shop), [names[0], "text.jpg", "missing.jpg", names[1]], SETTINGS
    )
    assert [hash_ != "" for hash_ in report.hashes] == [True, False, False, True]
    assert [bad.image for bad in report.bad] == ["text.jpg", "missing.jpg"]
    assert report.added == 2


def test_missing_pictures(tmp_path: Path) -> None:
    store = PackedImages.open(tmp_path / "store", SIZE)
    with pytest.raises(DataError, match=r"1 of 1 pictures are missing.*import the items again"):
        store.rows(["0" * 64])
    report = store.add(FolderPictures(tmp_path / "shop"), pictures(tmp_path / "shop", 3), SETTINGS)
    with pytest.raises(DataError, match=r"2 of 5 pictures are missing.*ffff"):
        store.rows([*report.hashes, "f" * 64, ""])
    assert store.rows([]).shape == (0,)


def test_another_size(tmp_path: Path) -> None:
    PackedImages.open(tmp_path / "store", SIZE)
    with pytest.raises(SettingsError, match=r"pictures of 32 pixels, but images\.size is 64"):
        PackedImages.open(tmp_path / "store", 64)


@pytest.mark.parametrize("damage", ["head", "name", "pixels", "gone"])
def test_a_damaged_store(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "store"
    store = PackedImages.open(folder, SIZE)
    store.add(FolderPictures(tmp_path / "shop"), pictures(tmp_path / "shop", 3), SETTINGS)
    index, pixels = folder / "index.txt", folder / "pixels.u8"
    if damage == "head":
        index.write_text("something else\n")
    elif damage == "name":
        index.write_bytes(index.read_bytes()[:-5])
    elif damage == "pixels":
        os.truncate(pixels, pixels.stat().st_size - 1)
    else:
        pixels.unlink()
    with pytest.raises(DataError, match="is damaged; delete the folder"):
        PackedImages.open(folder, SIZE)


def test_pixels_beyond_the_index_are_cut_off(tmp_path: Path) -> None:
    """What an import leaves behind that died between pixels and index."""
    shop, folder = tmp_path / "shop", tmp_path / "store"
    names = pictures(shop, 4)
    store = PackedImages.open(folder, SIZE)
    store.add(FolderPictures(shop), names[:2], SETTINGS)
    with (folder / "pixels.u8").open("ab") as file:
        file.write(b"\x99" * 1000)
    store = PackedImages.open(folder, SIZE)
    assert len(store) == 2
    report = store.add(FolderPictures(shop), names, SETTINGS)
    for number, square in enumerate(store.pixels[store.rows(report.hashes)]):
        assert (square == colour(number)).all()
    assert (folder / "pixels.u8").stat().st_size == 4 * SIZE * SIZE * 3


ADD = """
import sys
from pathlib import Path
from recjob.catalog import images
from recjob.catalog.picture_source import FolderPictures
from recjob.settings import ImageSettings
images._COMMIT_PICTURES, images._COMMIT_REST = 16, 0
store, shop = Path(sys.argv[1]), Path(sys.argv[2])
names = sorted(path.name for path in shop.iterdir())[int(sys.argv[3]) :: int(sys.argv[4])]
store = images.PackedImages.open(store, 32)
print(store.add(FolderPictures(shop), names, ImageSettings(workers=2)).added)
"""


def adding(store: Path, shop: Path, first: int, step: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ADD, str(store), str(shop), str(first), str(step)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_pixels_that_are_being_read_stay_while_an_import_appends(tmp_path: Path) -> None:
    """What a training relies on, which leaves the catalog to imports once it has read it."""
    shop, folder = tmp_path / "shop", tmp_path / "store"
    names = pictures(shop, 6)
    PackedImages.open(folder, SIZE).add(FolderPictures(shop), names[:3], SETTINGS)
    store = PackedImages.open(folder, SIZE)
    pixels, before = store.pixels, store.pixels.copy()
    # An import that died between pixels and index, then one that cuts its rest off and appends.
    with (folder / "pixels.u8").open("ab") as file:
        file.write(b"\x99" * (2 * SIZE * SIZE * 3 + 7))
    assert (pixels == before).all()
    report = PackedImages.open(folder, SIZE).add(FolderPictures(shop), names, SETTINGS)
    assert report.added == 3
    assert pixels.shape == before.shape
    assert (pixels == before).all()
    assert (store.pixels == before).all()  # mapped anew, as a later stage does
    assert store.rows(report.hashes[:3]).tolist() == [0, 1, 2]


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Each adds its half and a share of the other's; nothing is there twice or wrong."""
    shop, folder = tmp_path / "shop", tmp_path / "store"
    names = pictures(shop, 300)
    processes = [adding(folder, shop, 0, 1), adding(folder, shop, 0, 2)]
    added = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sum(added) == 300
    store = PackedImages.open(folder, SIZE)
    assert len(store) == 300
    rows = store.rows([sha256(shop / name) for name in names])
    for number, square in enumerate(store.pixels[rows]):
        assert (square == colour(number)).all()


KILL = """
import os, signal, sys, threading
from pathlib import Path
from recjob.catalog import images
from recjob.catalog.picture_source import FolderPictures
from recjob.settings import ImageSettings
images._COMMIT_PICTURES, images._COMMIT_REST = 64, 0
store, shop = Path(sys.argv[1]), Path(sys.argv[2])
names = sorted(path.name for path in shop.iterdir())

class Deadly(FolderPictures):
    def __init__(self, reads):
        super().__init__(shop)
        self.left, self.guard = reads, threading.Lock()
    def read(self, image, max_bytes):
        with self.guard:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().read(image, max_bytes)

def deadly_replace(path, content):
    if moment == "new index":
        path.with_name(f".{path.name}.new").write_bytes(content[:-20])
    if moment == "index":
        replace(path, content)
    os.kill(os.getpid(), signal.SIGKILL)

replace = images.replace_file
images.PackedImages.open(store, 32)
for moment in (1, 63, 150, "pixels", "new index", "index", 1, 129):
    before = len(images.PackedImages(store, 32))
    reads = before + moment if isinstance(moment, int) else 0
    child = os.fork()
    if child == 0:
        if not reads:
            images.replace_file = deadly_replace
        images.PackedImages(store, 32).add(Deadly(reads), names, ImageSettings(workers=2))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    print(moment, len(images.PackedImages(store, 32)) - before, sep="\t")
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Started again it decodes few pictures twice, and leaves what an undisturbed import does."""
    shop, folder = tmp_path / "shop", tmp_path / "store"
    names = pictures(shop, 450)
    command = [sys.executable, "-c", KILL, str(folder), str(shop)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    kept = dict(line.split("\t") for line in result.stdout.splitlines()[:6])
    assert kept["pixels"] == kept["new index"] == "0"
    assert kept["index"] == "64"
    # Of 149 pictures that were read at most 63, and those ahead of the writing, are lost.
    assert int(kept["150"]) in (64, 128)
    report = PackedImages.open(folder, SIZE).add(FolderPictures(shop), names, SETTINGS)
    assert list(report.hashes) == [sha256(shop / name) for name in names]
    undisturbed = tmp_path / "undisturbed"
    PackedImages.open(undisturbed, SIZE).add(FolderPictures(shop), names, SETTINGS)
    for name in ("index.txt", "pixels.u8"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()


class Stopping(FolderPictures):
    """Asks for a stop after a number of files, as Ctrl-C does."""

    def __init__(self, root: Path, files: int) -> None:
        super().__init__(root)
        self.files = files

    def read(self, image: str, max_bytes: int) -> bytes:
        self.files -= 1
        if self.files < 0:
            raise KeyboardInterrupt
        return super().read(image, max_bytes)


def test_a_stopped_import_keeps_what_it_has(tmp_path: Path) -> None:
    names = pictures(tmp_path / "shop", 40)
    store = PackedImages.open(tmp_path / "store", SIZE)
    with pytest.raises(KeyboardInterrupt):
        store.add(Stopping(tmp_path / "shop", 30), names, ImageSettings(workers=1))
    assert len(store) == len(PackedImages(tmp_path / "store", SIZE)) == 30
    assert store.add(FolderPictures(tmp_path / "shop"), names, SETTINGS).added == 10


class Counting(FolderPictures):
    """Counts how often each file is read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: Counter[str] = Counter()

    def read(self, image: str, max_bytes: int) -> bytes:
        self.reads[image] += 1
        return super().read(image, max_bytes)


def test_two_sizes_from_one_reading(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    names = pictures(shop, 20)
    (shop / "text.jpg").write_text("I am no picture")
    names.insert(3, "text.jpg")
    small, large, alone = (PackedImages.open(tmp_path / f"{n}", n) for n in (SIZE, 64, 48))
    small.add(FolderPictures(shop), names[:5], SETTINGS)
    source = Counting(shop)
    report = pack_sizes([large, small], source, names, SETTINGS)
    assert source.reads == Counter(names)
    assert report.added == 20
    assert [bad.image for bad in report.bad] == ["text.jpg"]
    hashes = [sha256_ for sha256_ in report.hashes if sha256_]
    for store in (small, large):
        assert len(store) == 20
        for number, square in enumerate(store.pixels[store.rows(hashes)]):
            assert square.shape == (store.size, store.size, 3)
            assert (square == colour(number)).all()
    assert len(alone) == 0
    assert pack_sizes([small, large], source, names, SETTINGS).added == 0


def test_a_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    folder = tmp_path / "store"
    store = PackedImages.open(folder, SIZE)
    names = pictures(tmp_path / "shop", 3)
    (folder / ".index.txt.new").symlink_to("/dev/full")
    with pytest.raises(TemporaryError, match="the disk is full"):
        store.add(FolderPictures(tmp_path / "shop"), names, SETTINGS)
    (folder / ".index.txt.new").unlink()
    assert len(PackedImages.open(folder, SIZE)) == 0
    assert store.add(FolderPictures(tmp_path / "shop"), names, SETTINGS).added == 3
