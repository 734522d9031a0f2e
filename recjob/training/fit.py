"""The loop that every recommender recipe shares: epochs, validation, the best one kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from recjob.errors import RecjobError
from recjob.evaluation.protocol import Quality
from recjob.model.recommender import OutfitRecommender
from recjob.settings import TrainingSettings
from recjob.training.draws import seed_dropout
from recjob.training.optimise import guarded_step, make_optimizer
from recjob.training.pictures import StepSource
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
    step: nn.Module,
    model: OutfitRecommender,
    source: StepSource,
    validator: Validator,
    options: TrainingSettings,
    seed: int,
    on_progress: Progress | None = None,
) -> tuple[Epoch, ...]:
    """Train in place and leave `model` at its best epoch.

    Args:
        step: the recipe's loss; called with a StepInput it gives a scalar. All its parameters
            are trained: those of `model`, and what is thrown away later (the projection).
        model: what is validated and kept; a part of `step`.
        source: gives the inputs of the steps.
        validator: chooses the best epoch; with an empty part the last epoch is kept.
        options: epochs, rates, clipping, patience.
        seed: of dropout.
        on_progress: told after every step.

    Raises RecjobError where the loss or a gradient is not finite, with epoch and step.
    """
    if source.steps == 0:
        raise RecjobError("no batch fits the training positives; lower batch_size")
    total = source.steps * options.epochs
    device = next(model.parameters()).device
    optimizer, schedule = make_optimizer([step], options, total)
    best_state: dict[str, Tensor] | None = None
    best_auc, best_epoch = -1.0, 0
    epochs: list[Epoch] = []
    note = ""
    for number in range(1, options.epochs + 1):
        begin = time.monotonic()
        step.train()
        losses = []
        for inputs in source.epoch(number):
            place = (inputs.batch.epoch, inputs.batch.step)
            seed_dropout(seed, *place)
            loss = step(inputs.to(device))
            where = f"epoch {place[0]}, step {place[1]}"
            losses.append(guarded_step(loss, optimizer, schedule, options.clip_norm, where))
            if on_progress is not None:
                on_progress((number - 1) * source.steps + len(losses), total, note)
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
