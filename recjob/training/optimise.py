"""Optimiser, schedule and the guarded step that every recipe takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from recjob.errors import RecjobError
from recjob.settings import TrainingSettings


class Schedule(Protocol):
    """What a recipe tells its learning rate."""

    def after_step(self) -> None:
        """Called after every optimiser step."""

    def after_epoch(self, validation_auc: float) -> None:
        """Called after every epoch with the validation AUC."""

    def state(self) -> dict[str, Any]:
        """Where it is, as JSON."""

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state`."""


FEWEST_STEPS: Final = 3
"""A cycle has at least one step up and one down; a shorter run sees its beginning only."""


PLATEAU_STATE: Final = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")
"""What changes in torch's ReduceLROnPlateau while it runs."""


class OneCycle:
    """Rises, then falls to almost nothing over the whole run."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, rates: list[float], steps: int, warmup: float
    ) -> None:
        steps = max(steps, FEWEST_STEPS)
        # torch divides by the length of the rise less one step: at least two steps rise.
        self._schedule = OneCycleLR(
            optimizer,
            max_lr=rates,
            total_steps=steps,
            pct_start=max(warmup, 2 / steps),
            cycle_momentum=False,
        )

    def after_step(self) -> None:
        """Next rate."""
        self._schedule.step()

    def after_epoch(self, validation_auc: float) -> None:
        """Nothing: the rate follows the steps."""

    def state(self) -> dict[str, Any]:
        """The steps taken, and the rate of each group."""
        return {"steps": self._schedule.last_epoch, "rates": _rates(self._schedule.optimizer)}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        self._schedule.last_epoch = state["steps"]
        _set_rates(self._schedule.optimizer, state["rates"])


class Plateau:
    """Lowers the rate where validation AUC stops rising (the peers' schedule)."""

    def __init__(self, optimizer: torch.optim.Optimizer, factor: float, patience: int) -> None:
        self._schedule = ReduceLROnPlateau(optimizer, "max", factor=factor, patience=patience)

    def after_step(self) -> None:
        """Nothing: the rate follows validation."""

    def after_epoch(self, validation_auc: float) -> None:
        """Lower the rate after too many epochs without a better AUC."""
        self._schedule.step(validation_auc)

    def state(self) -> dict[str, Any]:
        """The best AUC, how long ago it was, and the rate of each group."""
        kept = {name: getattr(self._schedule, name) for name in PLATEAU_STATE}
        return {**kept, "rates": _rates(self._schedule.optimizer)}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        for name in PLATEAU_STATE:
            setattr(self._schedule, name, state[name])
        _set_rates(self._schedule.optimizer, state["rates"])


def make_optimizer(
    models: Iterable[nn.Module], settings: TrainingSettings, steps: int
) -> tuple[torch.optim.Optimizer, Schedule]:
    """Optimiser and schedule for `steps` steps in all.

    User vectors learn at their own multiple of the rate. Vectors (users, biases, norms, the seed)
    have no weight decay under AdamW.
    """
    users: list[Tensor] = []
    matrices: list[Tensor] = []
    vectors: list[Tensor] = []
    for name, parameter in _parameters(models):
        if name == "users.weight" or name.endswith(".users.weight"):
            users.append(parameter)
        elif parameter.ndim > 1:
            matrices.append(parameter)
        else:
            vectors.append(parameter)
    rate = settings.learning_rate
    adamw = settings.optimizer == "adamw"
    no_decay = 0.0 if adamw else settings.weight_decay
    groups = [
        {"params": matrices, "lr": rate, "weight_decay": settings.weight_decay},
        {"params": vectors, "lr": rate, "weight_decay": no_decay},
        {"params": users, "lr": rate * settings.user_rate_factor, "weight_decay": no_decay},
    ]
    if adamw:
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(groups, fused=True)
        rates = [rate, rate, rate * settings.user_rate_factor]
        return optimizer, OneCycle(optimizer, rates, steps, settings.warmup)
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=settings.momentum)
    return optimizer, Plateau(optimizer, settings.plateau_factor, settings.plateau_patience)


def guarded_step(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    clip_norm: float,
    where: str,
    batch: str = "",
) -> float:
    """Backward, clip, step; returns the loss.

    Raises RecjobError where the loss or the gradient is not finite, saying `where`, and what
    `batch` says of the batch. The step is not taken then.
    """
    value = float(loss.detach())
    of_batch = f" in the batch of {batch}" if batch else ""
    if not math.isfinite(value):
        raise RecjobError(f"{where}: the loss is {value}{of_batch}; lower the learning rate")
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
    if not bool(torch.isfinite(norm)):
        raise RecjobError(f"{where}: the gradient is not finite{of_batch}; lower the learning rate")
    optimizer.step()
    schedule.after_step()
    return value


def _rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _set_rates(optimizer: torch.optim.Optimizer, rates: list[float]) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _parameters(models: Iterable[nn.Module]) -> Iterator[tuple[str, Tensor]]:
    for model in models:
        yield from (pair for pair in model.named_parameters() if pair[1].requires_grad)
