"""What the contrastive losses share: two views of each outfit, all compared with all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from recjob.model.losses.checks import check_pairs, check_temperature


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
    check_pairs(first, second, 2, "first and second")
    views = functional.normalize(torch.cat([first, second]), dim=1)
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    return (views @ views.T / temperature).masked_fill(itself, -torch.inf)
