"""Places and pictures of Figure 8."""

from __future__ import annotations

import numpy as np
import pytest

from recjob.paper.space_layout import (
    CANVAS,
    FALSE_NEGATIVE,
    FALSE_SCALE,
    LARGEST_BOX,
    MARGIN,
    MOST_FILLED,
    NEGATIVE,
    POSITIVE,
    TEST_POSITIVE,
    USER_BOX,
    box_sides,
    kinds,
    moved_apart,
    on_canvas,
)
from recjob.paper.space_plot import outfit_picture, without_border


def test_kinds_of_negatives_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(size=(3, 200)).astype(np.float32)
    in_test = rng.random((3, 200)) < 0.2
    kind, user = kinds(d, in_test)
    for row in range(200):
        hits = [k for k in range(3) if d[k, row] < 0 and in_test[k, row]]
        below = [k for k in range(3) if d[k, row] < 0]
        if hits:
            assert kind[row] == TEST_POSITIVE
            assert user[row] == min(hits, key=lambda k: d[k, row])
        elif below:
            assert kind[row] == FALSE_NEGATIVE
            assert user[row] == min(below, key=lambda k: d[k, row])
        else:
            assert kind[row] == NEGATIVE


@pytest.mark.parametrize("n", [2, 30, 2000])
def test_boxes_fill_a_bounded_share_of_the_canvas(n: int) -> None:
    sides = box_sides(np.array([FALSE_NEGATIVE, POSITIVE] * (n // 2)))
    assert (sides**2).sum() <= 1.02 * MOST_FILLED * CANVAS[0] * CANVAS[1]
    assert sides.max() <= LARGEST_BOX
    assert sides[0] / sides[1] == pytest.approx(FALSE_SCALE, abs=0.05)


def test_places_fill_the_canvas() -> None:
    xy = np.random.default_rng(1).normal(size=(20, 2)) * (3, 50)
    placed = on_canvas(xy)
    edge = MARGIN + USER_BOX / 2
    np.testing.assert_allclose(placed.min(axis=0), edge)
    np.testing.assert_allclose(placed.max(axis=0), np.array(CANVAS) - edge)
    assert (np.argsort(placed[:, 0]) == np.argsort(xy[:, 0])).all()
    assert np.isfinite(on_canvas(np.zeros((3, 2)))).all()


def test_boxes_are_moved_off_each_other_and_off_the_users() -> None:
    rng = np.random.default_rng(2)
    centres = on_canvas(rng.normal(size=(70, 2)))
    centres[1] = centres[0]  # two at the same place
    boxes = np.where(np.arange(70) % 3 == 0, 160.0, 120.0)
    users = np.array([[1800.0, 1260.0], [300.0, 300.0]])
    placed = moved_apart(centres, boxes, users)
    np.testing.assert_array_equal(placed, moved_apart(centres, boxes, users))
    everything = np.concatenate([placed, users])
    sides = np.concatenate([boxes, [USER_BOX, USER_BOX]])
    for a in range(70):
        for b in range(a + 1, 72):
            apart = np.abs(everything[a] - everything[b]).max()
            assert apart >= (sides[a] + sides[b]) / 2 - 2
    assert (placed >= MARGIN + boxes[:, None] / 2).all()
    assert (placed <= np.array(CANVAS) - MARGIN - boxes[:, None] / 2).all()


def test_boxes_that_are_apart_stay() -> None:
    centres = np.array([[300.0, 300.0], [600.0, 300.0]])
    np.testing.assert_array_equal(
        moved_apart(centres, np.array([200.0, 200.0]), np.array([[2000.0, 1000.0]])), centres
    )


def plain(colour: tuple[int, int, int], height: int, width: int, side: int = 40) -> np.ndarray:
    picture = np.full((side, side, 3), 255, np.uint8)
    picture[5 : 5 + height, 3 : 3 + width] = colour
    return picture


def test_an_outfits_picture_shows_every_garment_whole() -> None:
    red, blue, green = (200, 0, 0), (0, 0, 200), (0, 160, 0)
    pictures = [plain(red, 20, 20), plain(blue, 34, 12), plain(green, 10, 20)]
    found = outfit_picture(pictures, 100).astype(int)
    assert found.shape == (100, 100, 3)

    def centre(channel: int) -> np.ndarray:
        own = np.delete(found, channel, axis=2).max(axis=2) < 60
        places = np.argwhere(own & (found[..., channel] > 120))
        assert len(places) > 100
        return np.asarray(places.mean(axis=0))

    top, bottom, shoes = centre(0), centre(2), centre(1)
    assert top[0] < shoes[0]  # the first over the third
    assert bottom[1] > max(top[1], shoes[1])  # and the second beside them
    for count in (1, 2, 4, 5):
        assert outfit_picture(pictures[:1] * count, 60).shape == (60, 60, 3)


def test_white_borders_are_cut_off() -> None:
    assert without_border(plain((9, 9, 9), 12, 30)).shape == (12, 30, 3)
    white = np.full((8, 8, 3), 250, np.uint8)
    assert without_border(white).shape == (8, 8, 3)
