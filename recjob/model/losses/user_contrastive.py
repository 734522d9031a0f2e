"""User-supervised contrastive loss: each user is a class (the future work of Sec. 5).

The form is L_out of Khosla et al., "Supervised Contrastive Learning" (2020), Eq. 2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recjob.model.losses.views import view_logits


def user_contrastive_loss(
    first: Tensor, second: Tensor, users: Tensor, temperature: float
) -> Tensor:
    """Agreement of all views of one user's outfits against the views of the others' outfits.

    Each of the 2N views is compared by cosine with the 2N - 1 others. Right answers are all other
    views of outfits of the same user, its own other view among them; the mean of their
    cross entropies is the view's loss, and the mean over all views is returned. Where every row
    is of another user it is the NT-Xent loss (Eq. 17, 18).

    Args:
        first: `(N, d)` projected views g(o); normalised inside.
        second: `(N, d)` the other view of the same outfits.
        users: `(N,)` int, the user who likes each outfit.
        temperature: tau_CL, above 0.

    Raises:
        ValueError: on other shapes, or a temperature that is not above 0.
    """
    logits = view_logits(first, second, temperature)
    if users.shape != first.shape[:1]:
        raise ValueError(f"users must be ({first.shape[0]},), got {tuple(users.shape)}")
    user = users.to(logits.device).repeat(2)
    right = (user[:, None] == user) & logits.isfinite()
    own_mean = logits.masked_fill(~right, 0).sum(dim=1) / right.sum(dim=1)
    return (torch.logsumexp(logits, dim=1) - own_mean).mean()
