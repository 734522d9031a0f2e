"""The benchmark of packed pictures, at a size that says nothing about speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recjob.bench import images
from recjob.bench.images import ImagesWork, bench_images, print_images
from recjob.bench.picture_work import pillow_square
from recjob.errors import DataError
from recjob.settings import ImageSettings, Settings

SETTINGS = Settings(images=ImageSettings(size=64, workers=1))
SIDE = 150
"""Of drawn pictures; a JPEG of it is decoded at half of it for 64 pixels."""


def test_ours_beside_pillow(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "DRAWINGS", 2)
    result = bench_images(SETTINGS, ImagesWork(pictures=5, side=SIDE, repeats=2))
    assert (result.pictures, result.size, result.workers, result.repeats) == (5, 64, 1, 2)
    assert result.equal
    assert result.largest_difference == 0
    assert [way.name for way in result.ways] == [
        "import",
        "import again",
        "Pillow, one core",
        "Pillow, all cores",
    ]
    for way in result.ways:
        assert way.pictures_per_second == pytest.approx(5 / way.seconds)
    assert result.share_of_pool == result.ways[3].seconds / result.ways[0].seconds
    # Of a Python with numpy and Pillow, but without torch.
    assert 10 * 2**20 < result.peak_memory_bytes < 300 * 2**20
    print_images(result)
    assert "pixels equal" in " ".join(capsys.readouterr().out.split())


def test_other_pixels_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    names = [f"{number}.png" for number in range(3)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8)).save(tmp_path / name)

    def compare(store: str) -> int:
        return images._largest_difference(tmp_path / store, tmp_path, names, SETTINGS.images)

    assert compare("first") == 0

    def another(path: Path, size: int) -> np.ndarray:
        square = pillow_square(path, size).copy()
        if path.name == names[-1]:
            square[20, 20] ^= 1
        return square

    monkeypatch.setattr(images, "pillow_square", another)
    assert compare("second") == 1


def test_folders_that_cannot_be_measured(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures"):
        bench_images(SETTINGS, ImagesWork(data=tmp_path))
    (tmp_path / "bad.JPG").write_text("I am no picture")
    with pytest.raises(DataError, match=r"bad\.JPG: not a picture .*without bad pictures"):
        bench_images(SETTINGS, ImagesWork(data=tmp_path))
