"""NT-Xent, the contrastive loss over two views of each outfit (Sec. 3.3, Eq. 17, 18)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from recjob.model.losses.views import view_logits


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
    logits = view_logits(first, second, temperature)
    other_view = torch.arange(len(logits), device=logits.device).roll(len(first))
    return functional.cross_entropy(logits, other_view)
