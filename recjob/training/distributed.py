"""Several processes that train one model: who does what, and how the shares come together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx, once_differentiable


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone it is the only one."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """True in the process that reads, validates, logs and saves."""
        return self.rank == 0

    def own(self, n: int, rank: int | None = None) -> slice:
        """This process's share of `n` rows; the shares differ by at most one row."""
        rank = self.rank if rank is None else rank
        return slice(n * rank // self.count, n * (rank + 1) // self.count)

    def gather(self, own: Tensor, n: int) -> Tensor:
        """All `(n, d)` rows of which `own` are this process's share, with gradients.

        The gradient of a share is the sum of what every process's loss says of it.
        """
        if self.count == 1:
            return own
        gathered: Tensor = _Gather.apply(own, n, self)
        return gathered


def current_ranks() -> Ranks:
    """This process in torch's process group, or alone where there is none."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Ranks()
    return Ranks(distributed.get_rank(), distributed.get_world_size())


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, own: Tensor, n: int, ranks: Ranks) -> Tensor:
        ctx.n, ctx.ranks = n, ranks  # type: ignore[attr-defined]
        largest = -(
            -n // ranks.count
        )  # every process sends as many rows, so short shares are padded
        sent = own.new_zeros((largest, *own.shape[1:]))
        sent[: len(own)] = own
        received = [torch.empty_like(sent) for _ in range(ranks.count)]
        distributed.all_gather(received, sent)
        shares = (ranks.own(n, rank) for rank in range(ranks.count))
        return torch.cat(
            [rows[: share.stop - share.start] for rows, share in zip(received, shares, strict=True)]
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient)
        return gradient[ctx.ranks.own(ctx.n)], None, None  # type: ignore[attr-defined]
