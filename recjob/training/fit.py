"""The loop that every recommender recipe shares: epochs, validation, the best one kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from recjob.errors import RecjobError
from recjob.evaluation.protocol import Quality
from recjob.model.recommender import OutfitRecommender
from recjob.settings import TrainingSettings
from recjob.training.checkpoint import Keeper, named_part, pack_optimizer, restore_optimizer
from recjob.training.distributed import Ranks
from recjob.training.draws import seed_dropout
from recjob.training.optimise import Schedule, guarded_step, make_optimizer
from recjob.training.pictures import StepSource
from recjob.training.prefetch import prefetched
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
    keeper: Keeper | None = None,
    ranks: Ranks | None = None,
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
        on_progress: told after every step. Where it raises KeyboardInterrupt the state is saved.
        keeper: where the state is saved, and may lie from a training that was cut short.
        ranks: the processes that train together.

    Raises RecjobError where the loss or a gradient is not finite, with epoch, step and batch.
    """
    ranks = ranks or Ranks()
    if source.steps == 0:
        raise RecjobError("no batch fits the training positives; lower batch_size")
    total = source.steps * options.epochs
    device = next(model.parameters()).device
    optimizer, schedule = make_optimizer([step], options, total)
    state = TrainingState(step, model, optimizer, schedule)
    keeper = keeper or Keeper()
    if (saved := keeper.last()) is not None:
        state.restore(*saved)
    loss_of = ranks.shared(step)

    while len(state.epochs) < options.epochs and not state.stuck(options.patience):
        number = len(state.epochs) + 1
        begin = time.monotonic() - state.seconds
        step.train()
        rest_of_epoch = source.epoch(number, first_step=len(state.losses))
        with closing(prefetched(rest_of_epoch, options.prefetch)) as steps:
            for inputs in steps:
                seed_dropout(seed, number, inputs.batch.step, ranks.rank)
                loss = loss_of(inputs.to(device))
                where = f"epoch {number}, step {inputs.batch.step}"
                batch = source.describe(inputs.batch)
                state.losses.append(
                    guarded_step(loss, optimizer, schedule, options.clip_norm, where, batch)
                )
                state.seconds = time.monotonic() - begin
                done = len(state.epochs) * source.steps + len(state.losses)
                if on_progress is not None:
                    with keeper.saved_when_stopped(state.pack):
                        on_progress(done, total, state.note)
                keeper.save_if_due(state.pack)
        validation = None
        if not validator.empty:
            with keeper.saved_when_stopped(state.pack):
                validation = ranks.agree(lambda: validator.quality(model), Quality)
        state.seconds = time.monotonic() - begin
        state.close_epoch(validation)
    if state.best is not None:
        model.load_state_dict(state.best)
    if on_progress is not None:
        on_progress(total, total, state.note)
    model.eval()
    return tuple(state.epochs)


@dataclass
class TrainingState:
    """Where a training is: all that is needed to go on."""

    step: nn.Module
    model: OutfitRecommender
    optimizer: Optimizer
    schedule: Schedule
    epochs: list[Epoch] = field(default_factory=list)
    """The finished ones."""
    losses: list[float] = field(default_factory=list)
    """Of the steps of the epoch that is under way."""
    seconds: float = 0.0
    """Spent on that epoch."""
    best: dict[str, Tensor] | None = None
    """The model after its best epoch."""
    best_auc: float = -1.0
    best_epoch: int = 0

    @property
    def note(self) -> str:
        """How the last epoch went."""
        if not self.epochs:
            return ""
        last = self.epochs[-1]
        quality = "" if last.validation is None else f", validation AUC {last.validation.auc:.4f}"
        return f"loss {last.loss:.3f}{quality}"

    def stuck(self, patience: int) -> bool:
        """True after `patience` epochs without a better validation AUC."""
        return self.best is not None and len(self.epochs) - self.best_epoch >= patience

    def close_epoch(self, validation: Quality | None) -> None:
        """The steps of an epoch are done, and this is what came of it."""
        mean_loss = sum(self.losses) / len(self.losses)
        self.epochs.append(Epoch(mean_loss, validation, self.seconds))
        self.losses, self.seconds = [], 0.0
        if validation is None:
            return
        self.schedule.after_epoch(validation.auc)
        if validation.auc > self.best_auc:
            self.best_auc, self.best_epoch = validation.auc, len(self.epochs)
            self.best = {
                name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()
            }

    def pack(self) -> tuple[dict[str, Tensor], Any]:
        """Tensors, and the rest as JSON."""
        tensors = {f"step.{name}": value for name, value in self.step.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in (self.best or {}).items()}
        packed = pack_optimizer(self.optimizer)
        tensors |= {f"optimizer.{name}": value for name, value in packed.items()}
        notes = {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "losses": self.losses,
            "seconds": self.seconds,
            "best": [self.best_auc, self.best_epoch],
            "schedule": self.schedule.state(),
        }
        return tensors, notes

    def restore(self, tensors: Mapping[str, Tensor], notes: Any) -> None:
        """Undo `pack`."""
        self.step.load_state_dict(named_part(tensors, "step"))
        restore_optimizer(self.optimizer, named_part(tensors, "optimizer"))
        self.schedule.restore(notes["schedule"])
        self.best = named_part(tensors, "best") or None
        self.best_auc, self.best_epoch = notes["best"]
        self.losses, self.seconds = notes["losses"], notes["seconds"]
        self.epochs = [
            Epoch(
                epoch["loss"],
                None if epoch["validation"] is None else Quality(**epoch["validation"]),
                epoch["seconds"],
            )
            for epoch in notes["epochs"]
        ]


def best_validation(epochs: tuple[Epoch, ...]) -> Quality | None:
    """The quality of the epoch that `fit` kept."""
    seen = [epoch.validation for epoch in epochs if epoch.validation is not None]
    return max(seen, key=lambda quality: quality.auc, default=None)
