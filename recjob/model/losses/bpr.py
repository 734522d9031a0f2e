"""Bayesian personalised ranking with temperature (Sec. 3.2.1, 4.1.3)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from recjob.model.losses.checks import check_pairs, check_temperature


def bpr_loss(positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    """Mean of softplus(-(r_ij - r_ijk) / tau): one negative per positive.

    Args:
        positive: `(N,)` scores.
        negative: `(N,)` scores.
        temperature: above 0.

    Raises:
        ValueError: on other shapes, or a temperature that is not above 0.
    """
    check_temperature(temperature)
    check_pairs(positive, negative, 1, "positive and negative")
    return functional.softplus((negative - positive) / temperature).mean()
