from __future__ import annotations

import io

import numpy as np
from PIL import Image

from recjob.report.pictures import jpeg


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_the_white_border_goes_and_the_garment_stays() -> None:
    pixels = np.full((100, 100, 3), 255, np.uint8)
    pixels[20:80, 40:60] = (180, 30, 40)
    pixels[0, 0] = 0  # a speck is not the garment
    picture = decoded(jpeg(pixels, 200))
    assert (picture.format, picture.size) == ("JPEG", (20, 60))
    middle = np.asarray(picture)[30, 10].astype(int)
    assert np.abs(middle - (180, 30, 40)).max() < 8


def test_the_longer_side_is_at_most_as_asked() -> None:
    pixels = np.zeros((300, 150, 3), np.uint8)
    assert decoded(jpeg(pixels, 100)).size == (50, 100)


def test_a_white_picture_stays_whole() -> None:
    assert decoded(jpeg(np.full((40, 30, 3), 255, np.uint8), 100)).size == (30, 40)


def test_the_noise_of_white_is_border() -> None:
    noise = np.random.default_rng(0).integers(246, 256, (64, 64, 3)).astype(np.uint8)
    noise[10:20, 10:20] = 0
    assert decoded(jpeg(noise, 64)).size == (10, 10)
