from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recjob.errors import NotFiniteError, RecjobError
from recjob.inference.embedding import embed_items, embed_outfits, unit, user_unit_vectors
from recjob.inference.torch_engine import TorchEngine
from tests.inference.students import SIDE, features, naive_features, pictures, student

ENGINE = TorchEngine(student(), "cpu", bf16=False)


class Broken:
    """An engine whose third row is not finite, as after an overflow."""

    name = "broken"

    def encode_items(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._spoil(len(pixels))

    def encode_outfits(
        self, features: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        return self._spoil(len(mask))

    def _spoil(self, n: int) -> NDArray[np.float32]:
        return np.where(np.arange(n)[:, None] == 2, np.nan, np.ones((n, 128))).astype(np.float32)


def test_items_of_a_packed_file_by_row(tmp_path: Path) -> None:
    images = pictures(12)
    packed = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=(12, SIDE, SIDE, 3))
    packed[:] = images
    packed.flush()
    reading = np.memmap(tmp_path / "pixels", np.uint8, "r", shape=(12, SIDE, SIDE, 3))
    rows, steps = np.array([7, 0, 7, 11, 3]), list[int]()
    found = embed_items(ENGINE, reading, rows, 2, steps.append)
    np.testing.assert_allclose(found, naive_features(student(), images[rows]), atol=1e-5)
    assert steps == [2, 2, 1]
    assert embed_items(ENGINE, reading, rows[:0], 2).shape == (0, 128)


def test_outfits_are_unit_vectors_whatever_the_batch_and_the_padding() -> None:
    items = features(30)
    rng = np.random.default_rng(0)
    outfits = np.array([rng.permutation(30)[:5] for _ in range(17)])
    outfits[rng.random(outfits.shape) < 0.4] = -1  # padding at any place
    outfits[4], outfits[0, 2] = -1, 5  # one without items
    steps = list[int]()
    found = embed_outfits(ENGINE, items, outfits, 4, steps.append)
    assert steps == [4, 4, 4, 4, 1]
    assert found.dtype == np.float32
    for row, outfit in enumerate(outfits):
        worn = items[outfit[outfit >= 0]]
        if row == 4:
            np.testing.assert_array_equal(found[row], 0)
            continue
        alone = ENGINE.encode_outfits(worn[None], np.ones((1, len(worn)), np.bool_))[0]
        np.testing.assert_allclose(found[row], alone / np.linalg.norm(alone), atol=1e-6)


def test_each_batch_tells_what_it_took() -> None:
    times: list[float] = []
    embed_items(ENGINE, pictures(5), np.arange(5), 2, None, times.append)
    assert len(times) == 3
    features = embed_items(ENGINE, pictures(5), np.arange(5), 2)
    embed_outfits(ENGINE, features, np.array([[0, 1], [2, -1], [-1, -1]]), 2, None, times.append)
    assert len(times) == 5
    assert all(0 < seconds < 60 for seconds in times)


def test_what_is_not_finite_is_an_error_that_names_the_row() -> None:
    rows = np.array([5, 6, 9, 8])
    with pytest.raises(RecjobError, match="broken: picture 9 has a vector that is not finite"):
        embed_items(Broken(), pictures(10), rows, 4)
    outfits = np.array([[0], [-1], [0], [0], [0]])  # the third that has items is outfit 3
    with pytest.raises(RecjobError, match="broken: outfit 3 has a vector that is not finite"):
        embed_outfits(Broken(), features(1), outfits, 5)


def test_users_of_a_model_that_diverged_have_no_vectors() -> None:
    model = student()
    vectors = user_unit_vectors(model)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    with torch.no_grad():
        model.users.weight[1] = float("inf")
    with pytest.raises(NotFiniteError, match=f"^1 of {len(vectors)} users have a vector"):
        user_unit_vectors(model)


def test_unit_vectors_of_any_length() -> None:
    vectors = np.array([[3, 4], [0, 0], [3e-30, 4e-30], [-3e30, 4e30], [0, -1e-45]], np.float32)
    expected: list[list[float]] = [[0.6, 0.8], [0, 0], [0.6, 0.8], [-0.6, 0.8], [0, -1]]
    np.testing.assert_allclose(unit(vectors), np.array(expected), rtol=1e-6)
    np.testing.assert_array_equal(unit(vectors.reshape(5, 1, 2)), unit(vectors)[:, None])
    assert unit(vectors).dtype == np.float32
    assert unit(np.zeros((0, 4), np.float32)).shape == (0, 4)
