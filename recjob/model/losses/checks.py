"""Argument checks that every loss shares."""

from __future__ import annotations

from torch import Tensor


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless the temperature is above zero."""
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")


def check_pairs(first: Tensor, second: Tensor, n_dims: int, names: str) -> None:
    """Raise ValueError unless both have the same shape, `(N,)` or `(N, d)` with N > 0."""
    if first.ndim != n_dims or first.shape != second.shape or first.shape[0] == 0:
        wanted = "(N,)" if n_dims == 1 else "(N, d)"
        raise ValueError(
            f"{names} must be {wanted} with N > 0, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )


def check_scores(positive: Tensor, negative: Tensor, valid: Tensor | None = None) -> None:
    """Raise ValueError unless the shapes are `(N,)`, `(N, K)` and `(N, K)` with N > 0."""
    if positive.ndim != 1 or positive.shape[0] == 0:
        raise ValueError(f"positive must be (N,) with N > 0, got {tuple(positive.shape)}")
    if negative.ndim != 2 or negative.shape[0] != positive.shape[0]:
        raise ValueError(f"negative must be ({positive.shape[0]}, K), got {tuple(negative.shape)}")
    if valid is not None and valid.shape != negative.shape:
        raise ValueError(
            f"valid must be {tuple(negative.shape)} like negative, got {tuple(valid.shape)}"
        )
