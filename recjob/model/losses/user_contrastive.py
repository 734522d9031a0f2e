"""User-supervised contrastive loss: each user is a class (the future work of Sec. 5).

The form is L_out of Khosla et al., "Supervised Contrastive Learning" (2020), Eq. 2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from recjob.model.losses.checks import check_temperature


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
    check_temperature(temperature)
    if first.ndim != 2 or first.shape != second.shape or first.shape[0] == 0:
        raise ValueError(
            "first and second must be (N, d) with N > 0, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )
    if users.shape != first.shape[:1]:
        raise ValueError(f"users must be ({first.shape[0]},), got {tuple(users.shape)}")
    views = functional.normalize(torch.cat([first, second]), dim=1)
    similarity = views @ views.T / temperature
    itself = torch.eye(len(views), dtype=torch.bool, device=views.device)
    total = torch.logsumexp(similarity.masked_fill(itself, -torch.inf), dim=1)
    user = users.to(views.device).repeat(2)
    same_user = (user[:, None] == user) & ~itself
    own_mean = (similarity * same_user).sum(dim=1) / same_user.sum(dim=1)
    return (total - own_mean).mean()
