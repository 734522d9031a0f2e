"""Cold starters: a vector from a few outfits, without training (Sec. 3.5, Eq. 20 to 24).

Both aggregations are linear in the neighbours' scores, and a score is an inner product with a
unit vector: so the weighted sum of the neighbours' unit vectors is one vector whose inner product
with a unit outfit vector is the paper's score.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

USER_BLOCK: Final = 4096
"""Users per step; with the block of newcomers it bounds memory, and 4 MiB of similarities stay in
the caches: more than twice as fast as 64 MiB."""
Strategy = Literal["w-avg", "avg"]

COLD_BLOCK: Final = 256
"""Newcomers per step."""


def cold_start_vectors(
    user_vectors: Tensor,
    outfit_vectors: Tensor,
    owner: Tensor,
    n_cold: int,
    strategy: Strategy = "w-avg",
    threshold: float = 0.0,
    temperature: float = 0.2,
) -> Tensor:
    """One vector per newcomer; its inner product with a unit outfit vector is Eq. 22 or 24.

    Args:
        user_vectors: `(U, d)` of the users that the model knows; normalised inside.
        outfit_vectors: `(P, d)` of the newcomers' outfits; normalised inside.
        owner: `(P,)` int, the newcomer in [0, n_cold) that each outfit belongs to.
        n_cold: number of newcomers.
        strategy: "avg" (Eq. 22) or "w-avg" (Eq. 23, 24).
        threshold: delta of Eq. 21.
        temperature: tau_w-avg of Eq. 23.

    Returns:
        `(n_cold, d)`, not normalised; lengths are at most 1.

    Raises:
        ValueError: for a newcomer without outfits, no users, or shapes that do not match.
    """
    user_vectors, outfit_vectors = torch.as_tensor(user_vectors), torch.as_tensor(outfit_vectors)
    owner = torch.as_tensor(owner, device=outfit_vectors.device).long()
    if user_vectors.ndim != 2 or user_vectors.shape[0] == 0:
        raise ValueError(f"user_vectors must be (U, d) with U > 0, got {tuple(user_vectors.shape)}")
    if outfit_vectors.ndim != 2 or outfit_vectors.shape[1] != user_vectors.shape[1]:
        raise ValueError(
            f"outfit_vectors must be (P, {user_vectors.shape[1]}), "
            f"got {tuple(outfit_vectors.shape)}"
        )
    if owner.shape != outfit_vectors.shape[:1]:
        raise ValueError(f"owner must be ({outfit_vectors.shape[0]},), got {tuple(owner.shape)}")
    if strategy not in ("w-avg", "avg"):
        raise ValueError(f"strategy must be 'w-avg' or 'avg', got {strategy!r}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    if owner.numel() and not 0 <= int(owner.min()) <= int(owner.max()) < n_cold:
        raise ValueError(f"owner must lie in [0, {n_cold})")
    count = torch.bincount(owner, minlength=n_cold)
    if bool((count == 0).any()):
        raise ValueError(f"newcomer {int(torch.argmin(count))} has no outfits")
    dtype = torch.promote_types(user_vectors.dtype, outfit_vectors.dtype)
    user_vectors, outfit_vectors = user_vectors.to(dtype), outfit_vectors.to(dtype)
    # Eq. 20: the mean of inner products is the inner product with the mean.
    mean = outfit_vectors.new_zeros((n_cold, outfit_vectors.shape[1]))
    mean.index_add_(0, owner, functional.normalize(outfit_vectors, dim=1))
    mean /= count[:, None]
    vectors = torch.empty_like(mean)
    for start in range(0, n_cold, COLD_BLOCK):
        block = slice(start, start + COLD_BLOCK)
        vectors[block] = _aggregate(mean[block], user_vectors, strategy, threshold, temperature)
    return vectors


def _aggregate(
    mean: Tensor, user_vectors: Tensor, strategy: str, threshold: float, temperature: float
) -> Tensor:
    """Weighted sums `(C, d)` of the users near `mean (C, d)`, by an online softmax over blocks."""
    best = mean.new_full((mean.shape[0],), -torch.inf)
    best_user = torch.zeros_like(mean)
    total = torch.zeros_like(best)
    weighted = torch.zeros_like(mean)
    for start in range(0, user_vectors.shape[0], USER_BLOCK):
        users = functional.normalize(user_vectors[start : start + USER_BLOCK], dim=1)
        similarity = mean @ users.T
        block_best, argmax = similarity.max(dim=1)
        new_best = torch.maximum(best, block_best)
        neighbour = similarity > threshold
        if strategy == "avg":
            weight = neighbour.to(mean.dtype)
        else:
            # Weights relative to the best so far: exp never overflows.
            decay = torch.exp((best - new_best) / temperature)
            total, weighted = total * decay, weighted * decay[:, None]
            weight = torch.exp((similarity - new_best[:, None]) / temperature) * neighbour
        total += weight.sum(dim=1)
        weighted += weight @ users
        best_user = torch.where((block_best > best)[:, None], users[argmax], best_user)
        best = new_best
    # Eq. 21: the most similar user is always a neighbour; it matters where none is above delta.
    alone = ~(best > threshold)
    safe_total = torch.where(alone, torch.ones_like(total), total)
    return torch.where(alone[:, None], best_user, weighted / safe_total[:, None])
