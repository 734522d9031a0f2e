"""The loop that every recommender recipe shares: epochs, validation, the best one kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recjob.errors import RecjobError
from recjob.evaluation.protocol import Quality
from recjob.model.recommender import OutfitRecommender
from recjob.settings import TrainingSettings
from recjob.training.data import Batch, BatchSource
from recjob.training.optimise import guarded_step, make_optimizer
from recjob.training.validation import Validator

Progress = Callable[[int, int, str], None]
"""Told (steps done, steps in all, a word on quality)."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave."""

    loss: float
    validation: Quality | None
    seconds: float


@dataclass(frozen=True)
class TrainedModel:
    """A model at its best validation AUC, and how it came to be."""

    model: OutfitRecommender
    validation: Quality | None
    epochs: tuple[Epoch, ...]
    notes: dict[str, float]


def fit(
    model: OutfitRecommender,
    extra: nn.Module | None,
    source: BatchSource,
    loss_of: Callable[[Batch], Tensor],
    validator: Validator,
    options: TrainingSettings,
    on_progress: Progress | None = None,
) -> tuple[Epoch, ...]:
    """Train in place and leave `model` at its best epoch.

    Args:
        model: what is trained and validated.
        extra: trained along and thrown away (the contrastive projection).
        source: gives the batches.
        loss_of: the recipe's loss of one batch.
        validator: chooses the best epoch; with an empty part the last epoch is kept.
        options: epochs, rates, clipping, patience.
        on_progress: told after every step.

    Raises RecjobError where the loss or a gradient is not finite, with epoch and step.
    """
    if source.steps == 0:
        raise RecjobError("no batch fits the training positives; lower batch_size")
    total = source.steps * options.epochs
    modules = [model] if extra is None else [model, extra]
    optimizer, schedule = make_optimizer(modules, options, total)
    best_state: dict[str, Tensor] | None = None
    best_auc, best_epoch = -1.0, 0
    epochs: list[Epoch] = []
    note = ""
    for number in range(1, options.epochs + 1):
        begin = time.monotonic()
        model.train()
        losses = []
        for step, batch in enumerate(source.epoch(), start=1):
            where = f"epoch {number}, step {step}"
            loss = loss_of(batch)
            losses.append(guarded_step(loss, optimizer, schedule, options.clip_norm, where))
            if on_progress is not None:
                on_progress((number - 1) * source.steps + step, total, note)
        validation = None if validator.empty else validator.quality(model)
        mean_loss = sum(losses) / len(losses)
        epochs.append(Epoch(mean_loss, validation, time.monotonic() - begin))
        if validation is None:
            note = f"loss {mean_loss:.3f}"
            continue
        note = f"loss {mean_loss:.3f}, validation AUC {validation.auc:.4f}"
        schedule.after_epoch(validation.auc)
        if validation.auc > best_auc:
            best_auc, best_epoch = validation.auc, number
            best_state = {
                name: tensor.detach().clone() for name, tensor in model.state_dict().items()
            }
        elif number - best_epoch >= options.patience:
            break
    if best_state is not None:
        model.load_state_dict(best_state)
    if on_progress is not None:
        on_progress(total, total, note)
    model.eval()
    return tuple(epochs)


def best_validation(epochs: tuple[Epoch, ...]) -> Quality | None:
    """The quality of the epoch that `fit` kept."""
    seen = [epoch.validation for epoch in epochs if epoch.validation is not None]
    return max(seen, key=lambda quality: quality.auc, default=None)


def seeded_generator(seed: int, purpose: int) -> torch.Generator:
    """A CPU generator of its own for each purpose, so that one draw never shifts another."""
    return torch.Generator().manual_seed(seed * 1_000_003 + purpose)
