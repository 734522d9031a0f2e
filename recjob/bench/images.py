"""Benchmark of packed pictures: our import of a folder beside Pillow alone on the same files.

Ours reads, hashes, decodes and writes, and survives a kill; Pillow alone decodes, scales, pads and
drops the pixels. Both make the same pixels, which is checked first.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import PIL
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from recjob.bench.machine import Machine, this_machine
from recjob.bench.picture_work import decode_and_drop, pack, peak_of_pack, pillow_square
from recjob.bench.scratch import scratch_home
from recjob.catalog.garments.items import picture
from recjob.catalog.images import PackedImages
from recjob.catalog.synthetic import simulate
from recjob.errors import DataError
from recjob.settings import DemoSettings, ImageSettings, Settings

DRAWINGS: Final = 6
"""Different garments; drawing one of 800 pixels takes longer than decoding 30."""
USERS, ITEMS = 6, 60
"""Of the simulated shop that the garments hang in; few, since only its garments are used."""
JPEG_QUALITY: Final = 85
"""With colours at half the resolution, as shops save their photographs."""
SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp")
"""What is taken from a folder."""
COMPARED: Final = 256
"""Pictures whose pixels are compared."""
CHUNK: Final = 16
"""Pictures that a process of the pool is given at a time."""
OURS, AGAIN, ONE, POOL = "import", "import again", "Pillow, one core", "Pillow, all cores"
START: Final = "spawn"
"""How processes start: the fork of one with threads may wait for a lock for ever."""
MEBIBYTE: Final = 2**20


@dataclass(frozen=True)
class ImagesWork:
    """What is measured."""

    pictures: int = 400
    side: int = 800
    """Pixels of the drawn pictures."""
    size: int | None = None
    """Pixels of the packed ones; None: `images.size`."""
    repeats: int = 3
    data: Path | None = None
    """A folder whose pictures are taken instead of drawn ones."""


class Way(BaseModel):
    """One way to decode the pictures."""

    model_config = ConfigDict(frozen=True)

    name: str
    seconds: float
    """The least of all repeats."""
    pictures_per_second: float


class ImagesBenchmark(BaseModel):
    """Pictures per second of an import and of Pillow alone."""

    model_config = ConfigDict(frozen=True)

    machine: Machine
    pillow: str
    pictures: int
    mean_bytes: int
    """Of a picture file."""
    source: str
    size: int
    workers: int
    """Threads of ours, and processes of Pillow's pool."""
    repeats: int
    largest_difference: int
    """Of any pixel of ours and Pillow's, in levels of 255."""
    equal: bool
    peak_memory_bytes: int
    """Resident, of an import in a process of its own."""
    ways: tuple[Way, ...]
    share_of_pool: float
    """Our pictures per second relative to Pillow's on all cores, which writes nothing."""


def bench_images(settings: Settings, work: ImagesWork) -> ImagesBenchmark:
    """Measure both on the same files, in turn.

    Raises DataError where the folder has no pictures, or one that cannot be used.
    """
    size = work.size or settings.images.size
    workers = settings.images.workers or len(os.sched_getaffinity(0))
    options = settings.images.model_copy(update={"size": size, "workers": workers})
    with scratch_home(settings) as (scratch, _):
        folder = work.data or scratch / "pictures"
        if work.data is None:
            _draw(folder, work, settings.seed)
        names = _picture_names(folder, work.pictures)
        paths = [folder / name for name in names]
        largest = _largest_difference(scratch / "compared", folder, names[:COMPARED], options)
        seconds: dict[str, list[float]] = {name: [] for name in (OURS, AGAIN, ONE, POOL)}
        with ProcessPoolExecutor(workers, multiprocessing.get_context(START)) as pool:
            own = scratch / "own"
            peak_bytes = pool.submit(peak_of_pack, own, folder, names, options).result()
            for _ in range(2):  # all its processes have started, and imported what they need
                _decode_in_pool(pool, paths[: CHUNK * workers], size)
            for repeat in range(work.repeats):
                store = scratch / f"store-{repeat}"
                ours = partial(pack, store, folder, names, options)
                ways: dict[str, Callable[[], object]] = {
                    OURS: ours,
                    AGAIN: ours,
                    ONE: partial(decode_and_drop, paths, size),
                    POOL: partial(_decode_in_pool, pool, paths, size),
                }
                for name, way in ways.items():
                    start = time.perf_counter()
                    way()
                    seconds[name].append(time.perf_counter() - start)
                (store / "pixels.u8").unlink()
        mean_bytes = round(np.mean([path.stat().st_size for path in paths]))
    least = {name: min(measured) for name, measured in seconds.items()}
    drawn = f"{DRAWINGS} drawn garments of {work.side} px, each file of its own content"
    return ImagesBenchmark(
        machine=this_machine(),
        pillow=PIL.__version__,
        pictures=len(names),
        mean_bytes=mean_bytes,
        source=drawn if work.data is None else str(work.data),
        size=size,
        workers=workers,
        repeats=work.repeats,
        largest_difference=largest,
        equal=largest == 0,
        peak_memory_bytes=peak_bytes,
        ways=tuple(
            Way(
                name=name,
                seconds=value,
                pictures_per_second=len(names) / value,
            )
            for name, value in least.items()
        ),
        share_of_pool=least[POOL] / least[OURS],
    )


def print_images(result: ImagesBenchmark) -> None:
    """The ways side by side."""
    table = Table(
        title=f"{result.pictures} pictures of {result.mean_bytes // 1000} kB ({result.source}) "
        f"to {result.size} px, {result.workers} workers"
    )
    for heading in ("", "seconds", "pictures/s"):
        table.add_column(heading, justify="right" if heading else "left")
    for way in result.ways:
        table.add_row(
            way.name,
            f"{way.seconds:.2f}",
            f"{way.pictures_per_second:.0f}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"{result.share_of_pool:.2f} of the speed of Pillow alone on all cores; pixels "
        + ("equal" if result.equal else f"DIFFER by up to {result.largest_difference} levels")
        + f"; an import takes {result.peak_memory_bytes / MEBIBYTE:.0f} MiB"
    )


def _largest_difference(store: Path, folder: Path, names: list[str], options: ImageSettings) -> int:
    """Of our pixels and Pillow's."""
    hashes = pack(store, folder, names, options).hashes
    packed = PackedImages(store, options.size)
    largest = 0
    for name, row in zip(names, packed.rows(hashes), strict=True):
        theirs = pillow_square(folder / name, options.size).astype(np.int16)
        largest = max(largest, int(np.abs(packed.pixels[row] - theirs).max()))
    return largest


def _decode_in_pool(pool: Executor, paths: list[Path], size: int) -> None:
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    list(pool.map(decode_and_drop, chunks, [size] * len(chunks)))


def _picture_names(folder: Path, most: int) -> list[str]:
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not found:
        raise DataError(f"{folder}: no pictures ({', '.join(SUFFIXES)}) in it; name another folder")
    return found[:most]


def _draw(folder: Path, work: ImagesWork, seed: int) -> None:
    """Files of different content that show a few garments; the decoder stops before the number."""
    folder.mkdir()
    items = simulate(DemoSettings(users=USERS, items=ITEMS), seed).taste.items
    drawings = []
    for item in range(min(DRAWINGS, work.pictures)):
        file = io.BytesIO()
        picture(items, item, work.side).save(file, "JPEG", quality=JPEG_QUALITY)
        drawings.append(file.getvalue())
    for number in range(work.pictures):
        content = drawings[number % len(drawings)] + number.to_bytes(8, "little")
        (folder / f"{number:07d}.jpg").write_bytes(content)
