"""One picture file to one square: right colours and sides, and a reason for each bad file."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import threading
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from recjob.catalog.decode import DecodingRoom, decode, decode_file
from recjob.catalog.picture_source import FolderPictures, RefusedPictureError
from recjob.settings import ImageSettings

SIZE = 32
SETTINGS = ImageSettings()
MAX_PIXELS = SETTINGS.max_pixels
RED, GREEN, WHITE = (200, 30, 40), (20, 150, 60), (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def halves(mode: str = "RGB", width: int = 64, height: int = 64) -> Image.Image:
    """Red on the left, green on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height))
    return image.quantize(4) if mode == "P" else image.convert(mode)


def close(square: Any, expected: tuple[int, int, int], tolerance: int = 6) -> bool:
    return bool((abs(np.asarray(square, dtype=int) - expected) <= tolerance).all())


def reason(folder: Path, name: str, settings: ImageSettings = SETTINGS) -> str:
    source = FolderPictures(folder)
    result = decode_file(source, {SIZE: frozenset()}, settings, DecodingRoom(), name)
    assert not result.squares
    assert result.sha256 == ""
    assert "\n" not in result.reason
    return result.reason


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "RGBA", {}),
        ("JPEG", "RGB", {"quality": 95}),
        ("JPEG", "RGB", {"quality": 95, "progressive": True}),
        ("JPEG", "CMYK", {"quality": 95}),
        ("WEBP", "RGB", {"lossless": True}),
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {}),
        ("TIFF", "CMYK", {}),
    ],
)
def test_formats_and_modes(kind: str, mode: str, options: dict[str, Any]) -> None:
    square = decode(encoded(halves(mode), kind, **options), SIZE, MAX_PIXELS)
    assert square.shape == (SIZE, SIZE, 3)
    assert square.dtype == np.uint8
    assert close(square[2:-2, 2:13], RED)
    assert close(square[2:-2, 19:-2], GREEN)


def test_grey() -> None:
    square = decode(encoded(Image.new("L", (50, 50), 90), "PNG"), SIZE, MAX_PIXELS)
    assert (square == 90).all()
    sixteen = Image.fromarray(np.full((50, 50), 90 * 256 + 17, dtype=np.uint16))
    assert (decode(encoded(sixteen, "PNG"), SIZE, MAX_PIXELS) == 90).all()
    bilevel = decode(encoded(Image.new("1", (50, 50), 1), "PNG"), SIZE, MAX_PIXELS)
    assert (bilevel == 255).all()


def test_the_same_size_is_the_same_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "PNG")
    assert np.array_equal(decode(data, SIZE, MAX_PIXELS), noise)


@pytest.mark.parametrize(("width", "height"), [(64, 32), (20, 10), (3000, 1500), (8, 4)])
def test_padding_with_white(width: int, height: int) -> None:
    """Twice as wide as high: a quarter of white above and below, and nothing is stretched."""
    for kind in ("PNG", "JPEG"):
        image = Image.new("RGB", (width, height), RED)
        square = decode(encoded(image, kind), SIZE, MAX_PIXELS)
        assert close(square[:8], WHITE, 0)
        assert close(square[24:], WHITE, 0)
        assert close(square[8:24], RED)


def test_a_line_of_pixels() -> None:
    square = decode(encoded(Image.new("RGB", (1000, 1), RED), "PNG"), SIZE, MAX_PIXELS)
    assert close(square[SIZE // 2 - 1 : SIZE // 2 + 1].min(axis=0), (200, 30, 40))


def test_transparency_becomes_white() -> None:
    clear = Image.new("RGBA", (64, 64), (*RED, 0))
    clear.paste((*RED, 255), (0, 0, 32, 64))
    for kind in ("PNG", "WEBP"):
        square = decode(encoded(clear, kind), SIZE, MAX_PIXELS)
        assert close(square[:, :14], RED)
        assert close(square[:, 18:], WHITE)
    half = decode(encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 128)), "PNG"), SIZE, MAX_PIXELS)
    assert close(half, (127, 127, 127), 1)
    palette = halves().quantize(2)
    index = palette.getpixel((63, 0))
    square = decode(encoded(palette, "PNG", transparency=index), SIZE, MAX_PIXELS)
    assert close(square[:, 18:], WHITE)
    assert close(square[:, :14], RED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int) -> None:
    """A picture stored turned by its EXIF tag looks like the upright one."""
    upright = Image.new("RGB", (64, 32), RED)
    upright.paste(GREEN, (0, 0, 20, 16))  # upper left: no symmetry
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = decode(encoded(upright, "PNG"), SIZE, MAX_PIXELS).astype(int)
    for kind in ("PNG", "JPEG", "WEBP"):
        options: dict[str, Any] = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
        data = encoded(stored, kind, exif=exif, **options)
        assert abs(decode(data, SIZE, MAX_PIXELS) - plain).mean() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_matter() -> None:
    data = encoded(halves(), "JPEG", quality=95, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert close(decode(data, SIZE, MAX_PIXELS)[2:-2, 2:13], RED)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (40, 40), tone) for tone in (RED, GREEN)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert close(decode(data, SIZE, MAX_PIXELS), RED)


def test_a_known_hash_is_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no picture, but known")
    source = FolderPictures(tmp_path)
    assert decode_file(source, {SIZE: set()}, SETTINGS, None, "a.jpg").reason
    digest = hashlib.sha256((tmp_path / "a.jpg").read_bytes()).hexdigest()
    known = decode_file(source, {SIZE: {digest}}, SETTINGS, None, "a.jpg")
    assert (known.sha256, known.squares, known.reason) == (digest, {}, "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_several_sizes_are_as_each_alone(tmp_path: Path, kind: str) -> None:
    """Also where a JPEG is decoded at several scales (900 pixels: at 900, 450 and 225)."""
    noise = np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8)
    large = Image.fromarray(noise).resize((600, 900), Image.Resampling.BICUBIC)
    (tmp_path / "a").write_bytes(encoded(large, kind))
    source = FolderPictures(tmp_path)
    sizes = (SIZE, 100, 128, 224, 512)
    together = decode_file(source, {size: set() for size in sizes}, SETTINGS, None, "a")
    assert tuple(together.squares) == tuple(sorted(sizes))
    for size in sizes:
        alone = decode((tmp_path / "a").read_bytes(), size, MAX_PIXELS)
        assert np.array_equal(together.squares[size], alone)
    some = decode_file(source, {SIZE: {together.sha256}, 100: set()}, SETTINGS, None, "a")
    assert list(some.squares) == [100]


def test_a_draft_is_near_the_whole_picture() -> None:
    """800 pixels to 224 by way of 400: closer to the plain way than a JPEG is to its original."""
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    large = Image.fromarray(noise).resize((800, 800), Image.Resampling.BICUBIC)
    data = encoded(large, "JPEG", quality=85)
    square = decode(data, 224, MAX_PIXELS).astype(int)
    with Image.open(io.BytesIO(data)) as whole:
        plain = np.asarray(whole.resize((224, 224), Image.Resampling.LANCZOS)).astype(int)
    original = np.asarray(large.resize((224, 224), Image.Resampling.LANCZOS)).astype(int)
    assert 0 < ((square - plain) ** 2).mean() < ((original - plain) ** 2).mean()


def test_room_is_shared_and_the_largest_picture_runs_alone() -> None:
    room = DecodingRoom(pixels=10)
    held, most = [0], list[int]()

    def work(pixels: int) -> None:
        with room.hold(pixels):
            with lock:
                held[0] += pixels
                most.append(held[0] - (pixels if pixels > 10 else 0))
            time.sleep(0.001)
            with lock:
                held[0] -= pixels

    lock = threading.Lock()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [3, 4, 5, 30, 2, 3, 6, 9] * 5))
    assert len(most) == 40
    assert max(most) <= 10
    assert max(most) > 6  # several at once, while they fit


def test_bad_files(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        data = encoded(Image.fromarray(noise), kind)
        name = f"half.{kind.lower()}"
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        assert reason(tmp_path, name).startswith(("damaged picture", "not a picture")), kind
    (tmp_path / "text.jpg").write_text("hello")
    assert reason(tmp_path, "text.jpg").startswith("not a picture (JPEG, PNG")
    (tmp_path / "empty.jpg").touch()
    assert reason(tmp_path, "empty.jpg").startswith("not a picture")
    assert reason(tmp_path, "missing.jpg") == "no such file"
    assert reason(tmp_path, "") == "no picture is named"
    (tmp_path / "folder.jpg").mkdir()
    assert reason(tmp_path, "folder.jpg") == "not a file"
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason(tmp_path, "pipe.jpg") == "not a file"
    Image.fromarray(noise).save(tmp_path / "a.ppm")
    assert reason(tmp_path, "a.ppm").startswith("not a picture")
    Image.fromarray(noise[..., 0].astype(np.float32)).save(tmp_path / "float.tiff")
    assert "no fixed range" in reason(tmp_path, "float.tiff")
    small = ImageSettings(max_bytes=1000)
    (tmp_path / "large.png").write_bytes(encoded(Image.fromarray(noise), "PNG"))
    assert "more than images.max_bytes (1000)" in reason(tmp_path, "large.png", small)


def test_files_outside_the_folder(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    halves().save(tmp_path / "secret.png")
    (shop / "link.png").symlink_to(tmp_path / "secret.png")
    halves().save(shop / "good.png")
    (shop / "inner.png").symlink_to(shop / "good.png")
    for name in ("../secret.png", "link.png", str(tmp_path / "secret.png"), "."):
        assert reason(shop, name) == "lies outside the folder"
    inner = decode_file(FolderPictures(shop), {SIZE: set()}, SETTINGS, None, "inner.png")
    assert inner.reason == ""


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is huge; its rows are zeros, which compress to almost nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1_000_000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(30_000, 30_000))
    tracemalloc.start()
    assert reason(tmp_path, "bomb.png") == (
        "30000 x 30000 pixels are more than images.max_pixels (64000000)"
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20


def test_the_limit_is_the_settings_not_pillows() -> None:
    image = Image.new("RGB", (100, 100), RED)
    data = encoded(image, "PNG")
    assert close(decode(data, SIZE, 10_000), RED)
    with pytest.raises(RefusedPictureError, match="100 x 100 pixels"):
        decode(data, SIZE, 9_999)
