"""What the frozen teacher says of negatives while the student trains (Eq. 11, 12)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from recjob.catalog.catalog import PADDING, Float32Array, Int32Array
from recjob.catalog.negatives import RandomNegatives
from recjob.errors import RefusedError
from recjob.inference.embedding import embed_items, embed_outfits, user_unit_vectors
from recjob.inference.torch_engine import TorchEngine
from recjob.model.cold_start import cold_start_vectors
from recjob.model.recommender import FEATURE_DIM, OutfitRecommender, unit
from recjob.settings import Settings, StudentSettings
from recjob.training.compute import Compute
from recjob.training.data import Batch, TrainingData

BLOCK: Final = 8192
"""Outfits per pass of the teacher's Set Transformer when its means are computed."""


@dataclass(frozen=True)
class FrozenTeacher:
    """A teacher that has seen every picture once."""

    model: OutfitRecommender
    features: Float32Array
    """(n_items, 128) item features; zeros for items in quarantine."""
    user_vectors: Float32Array
    """(n_warm, 128) in the order of `TrainingData.users`."""


def freeze_teacher(
    model: OutfitRecommender,
    user_ids: Sequence[str],
    data: TrainingData,
    settings: Settings,
    compute: Compute,
    on_progress: Callable[[int], None] | None = None,
) -> FrozenTeacher:
    """Run the teacher's trunk over every item, and find a vector for each user of `data`.

    A user who came after the teacher was trained gets the teacher's cold-start vector (Eq. 24) of
    the user's training outfits, so that such users are distilled too.

    Args:
        model: the teacher.
        user_ids: `(n_users,)` the user of each row of `model.users`.
        data: what the student trains on.
        settings: batch sizes and the cold-start strategy.
        compute: where it runs.
        on_progress: told how many items each batch finished.
    """
    catalog = data.catalog
    batch_size = settings.embed.batch_size
    engine = TorchEngine(model, compute.device, compute.bf16)
    features = np.zeros((catalog.n_items, FEATURE_DIM), np.float32)
    usable = np.flatnonzero(catalog.item_usable)
    features[usable] = embed_items(
        engine, data.pixels, data.picture_rows[usable], batch_size, on_progress
    )
    own = user_unit_vectors(model)
    row_of = {user_id: row for row, user_id in enumerate(user_ids)}
    ids = [catalog.user_ids[user] for user in data.users]
    rows = np.array([row_of.get(user_id, PADDING) for user_id in ids], np.int64)
    vectors = np.where(rows[:, None] == PADDING, np.float32(0), own[rows])
    new = np.flatnonzero(rows == PADDING)
    if new.size:
        place = np.full(data.users.size, PADDING, np.int64)
        place[new] = np.arange(new.size)
        positives = data.training_positives
        owner = place[data.model_row[positives[:, 0]]]
        outfits = catalog.outfit_items[positives[owner != PADDING, 1]]
        cold = settings.cold_start
        vectors[new] = cold_start_vectors(
            torch.from_numpy(own),
            torch.from_numpy(embed_outfits(engine, features, outfits, batch_size)),
            torch.from_numpy(owner[owner != PADDING]),
            new.size,
            cold.strategy,
            cold.threshold,
            cold.temperature,
        ).numpy()
    return FrozenTeacher(model, features, vectors.astype(np.float32))


class TeacherScores:
    """Scores of the frozen teacher from cached item features: its trunk never runs again."""

    def __init__(
        self, data: TrainingData, teacher: FrozenTeacher, compute: Compute, seed: int
    ) -> None:
        self._compute = compute
        self._model = teacher.model.to(compute.device).eval().requires_grad_(False)
        self._features = torch.from_numpy(teacher.features).to(compute.device)
        self._users = torch.from_numpy(teacher.user_vectors).to(compute.device)
        positives = data.training_positives
        rows = torch.from_numpy(data.model_row[positives[:, 0]].astype(np.int64)).to(compute.device)
        own = self._pairs(rows, data.catalog.outfit_items[positives[:, 1]])
        count = torch.bincount(rows, minlength=len(self._users)).clamp(min=1)
        self._user_mean = torch.zeros_like(self._users[:, 0]).index_add_(0, rows, own) / count
        draws = RandomNegatives(data.catalog, positives[:, 1])
        negatives = draws.draw(positives[:, 1], np.random.default_rng([seed, 5]))
        self.gap = float((own - self._pairs(rows, negatives)).mean())
        self._seen: dict[int, tuple[float, int, int]] = {}
        """Of each epoch the sum of d, how many there were, and how many below 0."""

    def alpha(self, options: StudentSettings) -> float:
        """alpha of Eq. 12: given, or relative to the mean gap of positives and random outfits.

        Raises RefusedError where the teacher does not tell positives from random outfits.
        """
        if options.alpha_relative == 0 or options.loss != "fnd":
            return options.alpha
        if not self.gap > 0:
            raise RefusedError(
                f"the teacher scores random outfits as high as positives (gap {self.gap:.3f}), "
                "so nothing can be distilled from it; train it longer"
            )
        return options.alpha_relative / self.gap

    @torch.no_grad()
    def of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """r_hat_i `(B,)` (Eq. 11) and r_hat_ijk `(B, K)` of this process's rows of a batch."""
        users = batch.users[batch.own].to(self._compute.device)
        return self._user_mean[users], self._users[users] @ self._vectors(batch.negatives).T

    def count(self, d: Tensor, epoch: int) -> None:
        """Remember d of a step of an epoch for `notes`."""
        total, counted, below_zero = self._seen.get(epoch, (0.0, 0, 0))
        self._seen[epoch] = (
            total + float(d.sum()),
            counted + d.numel(),
            below_zero + int((d < 0).sum()),
        )

    def state(self) -> Tensor:
        """What `count` remembers, `(n_epochs, 4)` float64."""
        rows = [(epoch, *seen) for epoch, seen in self._seen.items()]
        return torch.tensor(rows, dtype=torch.float64).view(-1, 4)

    def restore(self, state: Tensor) -> None:
        """Undo `state`."""
        self._seen = {
            int(epoch): (total, int(counted), int(below_zero))
            for epoch, total, counted, below_zero in state.tolist()
        }

    def notes(self, alpha: float) -> dict[str, float]:
        """The teacher's gap, alpha, the mean d and the share of negatives with d < 0.

        `final_mean_d` is of the last epoch, where a schedule has brought alpha to its value.
        """
        total, counted, below_zero = (
            sum(column) for column in zip(*self._seen.values(), strict=True)
        )
        last_total, last_counted, _ = self._seen[max(self._seen)]
        return {
            "teacher_gap": self.gap,
            "alpha": alpha,
            "mean_d": total / max(counted, 1),
            "final_mean_d": last_total / max(last_counted, 1),
            "share_d_below_zero": below_zero / max(counted, 1),
        }

    def _vectors(self, outfits: Tensor) -> Tensor:
        """Unit outfit vectors `(B, 128)` of `(B, M)` items."""
        outfits = outfits.to(self._compute.device)
        mask = outfits != PADDING
        return unit(self._model.encode_outfits(self._features[outfits.clamp(min=0)], mask))

    @torch.no_grad()
    def _pairs(self, rows: Tensor, outfits: Int32Array) -> Tensor:
        """Scores `(n,)` of user rows `(n,)` for outfits `(n, M)`."""
        items = torch.from_numpy(outfits.astype(np.int64))
        return torch.cat(
            [
                (self._users[rows[i : i + BLOCK]] * self._vectors(items[i : i + BLOCK])).sum(dim=1)
                for i in range(0, len(items), BLOCK)
            ]
        )
