"""Several processes that train one model: who does what, and how the shares come together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Final, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.parallel import DistributedDataParallel

from recjob.settings import ComputeSettings
from recjob.training.compute import choose_compute

T = TypeVar("T")

LONGEST_WAIT: Final = timedelta(days=1)
"""Processes wait for the first one while it packs pictures or validates. Nobody waits for one that
has died: torchrun ends them all."""


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

    def shared(self, step: nn.Module) -> nn.Module:
        """The module whose gradients are the means over all processes.

        Their weights start as the first process's.
        """
        return step if self.count == 1 else DistributedDataParallel(step)

    def agree(self, compute: Callable[[], T], kind: Callable[..., T]) -> T:
        """What the first process computes, a dataclass of numbers of class `kind`, for all."""
        if self.count == 1:
            return compute()
        values = json.dumps(asdict(compute())).encode() if self.first else b""  # type: ignore[call-overload]
        return kind(**json.loads(self.broadcast(values)))

    def broadcast(self, content: bytes) -> bytes:
        """The first process's bytes, for all; the others' argument counts for nothing."""
        if self.count == 1:
            return content
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        length = torch.tensor([len(content)], device=device)
        distributed.broadcast(length, 0)
        sent = torch.empty(int(length), dtype=torch.uint8)
        if self.first and content:
            sent = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        sent = sent.to(device)
        distributed.broadcast(sent, 0)
        return sent.cpu().numpy().tobytes()

    @contextmanager
    def first_then_others(self) -> Iterator[None]:
        """The block is run by the first process, and by the others when that is done."""
        if not self.first:
            distributed.barrier()
        yield
        if self.first and self.count > 1:
            distributed.barrier()


def current_ranks() -> Ranks:
    """This process in torch's process group, or alone where there is none."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Ranks()
    return Ranks(distributed.get_rank(), distributed.get_world_size())


def started_together() -> bool:
    """True where torchrun started this process along with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def joined(settings: ComputeSettings) -> Iterator[Ranks]:
    """Join the processes that torchrun started, while the block runs; alone, do nothing.

    On GPUs each takes that of its number on its machine.

    Raises what `choose_compute` raises.
    """
    if not started_together():
        yield Ranks()
        return
    cuda = choose_compute(settings).device.type == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=LONGEST_WAIT)
    try:
        yield current_ranks()
    finally:
        distributed.destroy_process_group()


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
