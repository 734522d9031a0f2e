"""What the contrastive losses share: two views of each outfit, all compared with all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from recjob.model.losses.checks import check_temperature


def view_logits(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Cosines over the temperature `(2N, 2N)` of all views; minus infinity of one with itself.

    Args:
        first: `(N, d)` projected views g(o); normalised inside.
        second: `(N, d)` the other view of the same outfits: row i + N is the other view of row i.
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
    views = functional.normalize(torch.cat([first, second]), dim=1)
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    return (views @ views.T / temperature).masked_fill(itself, -torch.inf)
