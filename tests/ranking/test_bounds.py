"""No product lies further from the exact score than its bound says."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recjob.ranking.bounds import BF16_OUTPUT, bf16_bound, exponents, fp32_bound, norms, powers
from recjob.ranking.scan import ieee_products


def scaled(rng: np.random.Generator, rows: int, width: int) -> NDArray[np.float32]:
    """Vectors with elements of very different size, at most 1."""
    values = rng.normal(size=(rows, width)) * 2.0 ** rng.integers(-12, 1, (rows, width))
    values *= 10.0 ** -rng.integers(0, 5, (rows, 1))
    result: NDArray[np.float32] = (values / np.abs(values).max()).astype(np.float32)
    return result


def exact(users: NDArray[np.float32], outfits: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array(
        [
            [math.fsum(x) for x in user.astype(np.float64) * outfits.astype(np.float64)]
            for user in users
        ]
    )


@pytest.mark.parametrize("width", [1, 7, 128, 1000])
def test_products_stay_within_their_bounds(width: int) -> None:
    rng = np.random.default_rng(width)
    users, outfits = scaled(rng, 40, width), scaled(rng, 60, width)
    users[3], outfits[5] = 0, 0
    true = exact(users, outfits)
    largest = float(norms(outfits).max())
    first, second = torch.from_numpy(users), torch.from_numpy(outfits)
    with ieee_products():
        single = torch.mm(first, second.T).double().numpy()
    assert (np.abs(single - true) <= fp32_bound(norms(users), largest, width)[:, None]).all()

    rough_users, rough_outfits = first.bfloat16(), second.bfloat16()
    rough = torch.mm(rough_users, rough_outfits.T).double().numpy()
    bound = bf16_bound(
        norms(users),
        norms((first - rough_users.float()).numpy()),
        largest,
        float(norms((second - rough_outfits.float()).numpy()).max()),
        width,
    )
    assert (np.abs(rough - true) <= bound[:, None] + BF16_OUTPUT * np.abs(rough)).all()
    assert bound[3] == 0  # a zero vector has no error


def test_scaling_is_exact_and_leaves_at_most_four() -> None:
    largest = np.array([0, 1e-45, 1e-38, 0.3, 1, 3e38], np.float32)
    exponent = exponents(largest)
    shrunk = largest * powers(-exponent)
    assert (shrunk <= 4).all()  # the largest float32 is almost 2 ** 128
    np.testing.assert_array_equal(np.ldexp(shrunk.astype(np.float64), exponent), largest)
