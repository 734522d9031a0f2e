"""NT-Xent, the contrastive loss over two views of each outfit (Sec. 3.3, Eq. 17, 18)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from recjob.model.losses.checks import check_temperature


def nt_xent_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Agreement of two views of each outfit against all other views of the batch.

    Each of the 2N views is compared by cosine with the 2N - 1 others; its other view is the right
    answer (Eq. 17). The mean over all views is returned (Eq. 18).

    Args:
        first: `(N, d)` projected views g(o); normalised inside.
        second: `(N, d)` the other view of the same outfits.
        temperature: tau_CL, above 0.

    Raises:
        ValueError: on other shapes, or a temperature that is not above 0.
    """
    check_temperature(temperature)
    if first.ndim != 2 or first.shape != second.shape or first.shape[0] == 0:
        raise ValueError(
            "first and second must be (N, d) with N > 0, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    n = first.shape[0]
    views = functional.normalize(torch.cat([first, second]), dim=1)
    similarity = views @ views.T / temperature
    itself = torch.eye(2 * n, dtype=torch.bool, device=views.device)
    logits = similarity.masked_fill(itself, -torch.inf)
    other_view = torch.arange(2 * n, device=views.device).roll(n)
    return functional.cross_entropy(logits, other_view)
