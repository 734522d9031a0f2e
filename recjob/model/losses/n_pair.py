"""N-pair loss with temperature (Eq. 10), the teacher's objective."""

from __future__ import annotations

import torch
from torch import Tensor

from recjob.model.losses.checks import check_scores, check_temperature


def n_pair_loss(
    positive: Tensor, negative: Tensor, temperature: float, valid: Tensor | None = None
) -> Tensor:
    """Mean over the batch of -log softmax of the positive among itself and its negatives (Eq. 10).

    Args:
        positive: `(N,)` scores r_ij.
        negative: `(N, K)` scores r_ijk.
        temperature: tau_FND, above 0.
        valid: `(N, K)` bool; False leaves a negative out (a shared negative that is a positive of
            that row's user). A row without any valid negative costs nothing.

    Raises:
        ValueError: on other shapes, or a temperature that is not above 0.
    """
    check_temperature(temperature)
    check_scores(positive, negative, valid)
    return positive_cross_entropy(positive / temperature, negative / temperature, valid)


def positive_cross_entropy(positive: Tensor, negative: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of -log(exp(p) / (exp(p) + sum exp(n))) over logits `(N,)` and `(N, K)`."""
    if valid is not None:
        negative = negative.masked_fill(~valid, -torch.inf)
    logits = torch.cat([positive[:, None], negative], dim=1)
    return (torch.logsumexp(logits, dim=1) - positive).mean()
