"""The rival of `bench train`: training steps written as the paper reads, with nothing spared.

Every item of every outfit of the batch, of its negatives and of its views passes the CNN, as often
as it is worn. Losses, model, optimiser, draws and the frozen teacher's scores are those of the
recipes; so what differs is how the pictures are read and encoded.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recjob.catalog.catalog import PADDING
from recjob.model.losses import false_negativeness, fnd_loss, n_pair_loss, nt_xent_loss
from recjob.model.recommender import FEATURE_DIM, ContrastiveProjection, OutfitRecommender, unit
from recjob.settings import StudentSettings
from recjob.training.compute import Compute
from recjob.training.data import Batch, TrainingData
from recjob.training.draws import Purpose, torch_draws
from recjob.training.pictures import Views
from recjob.training.teacher_scores import TeacherScores


class StraightforwardTeacher(nn.Module):
    """Eq. 10 for a batch."""

    def __init__(
        self, model: OutfitRecommender, data: TrainingData, temperature: float, compute: Compute
    ) -> None:
        super().__init__()
        self.model = model
        self._data = data
        self._temperature = temperature
        self._compute = compute

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        positive, negative = self.scores(batch)
        return n_pair_loss(positive, negative, self._temperature, _to(batch.valid, self._compute))

    def scores(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cosines (Eq. 9) `(B,)` with the positives and `(B, K)` with the negatives."""
        users = unit(self.model.users(batch.users.to(self._compute.device)))
        positives = unit(self.vectors(batch.outfits))
        negatives = unit(self.vectors(batch.negatives))
        return (users * positives).sum(dim=1), users @ negatives.T

    def vectors(self, outfits: Tensor) -> Tensor:
        """Outfit vectors `(B, 128)` of `(B, M)` items, each of which passes the CNN."""
        mask = outfits != PADDING
        pixels = self._data.gather(outfits[mask].numpy()).to(self._compute.device)
        with self._compute.autocast():
            encoded = self.model.encode_items(pixels)
        mask = mask.to(self._compute.device)
        features = torch.zeros(*outfits.shape, FEATURE_DIM, device=self._compute.device)
        features[mask] = encoded.float()
        return self.model.encode_outfits(features, mask)


class StraightforwardStudent(StraightforwardTeacher):
    """Eq. 19 for a batch: FND, and the contrast of two views of each outfit."""

    def __init__(
        self,
        model: OutfitRecommender,
        data: TrainingData,
        judge: TeacherScores,
        options: StudentSettings,
        views: Views,
        seed: int,
        compute: Compute,
    ) -> None:
        super().__init__(model, data, options.temperature, compute)
        self.projection = ContrastiveProjection().to(compute.device)
        self._judge = judge
        self._options = options
        self._views = views
        self._seed = seed

    def forward(self, batch: Batch) -> Tensor:
        """The loss."""
        positive, negative = self.scores(batch)
        valid = _to(batch.valid, self._compute)
        d = false_negativeness(*self._judge.of(batch), self._options.alpha)
        loss = fnd_loss(positive, negative, d, self._temperature, valid)
        draws = torch_draws(self._seed, Purpose.AUGMENTATIONS, batch.epoch, batch.step)
        first, second = (
            self.projection(self.vectors(view)) for view in self._views(batch.outfits, draws)
        )
        agreement = nt_xent_loss(first, second, self._options.contrastive_temperature)
        return loss + self._options.contrastive_weight * agreement


def _to(tensor: Tensor | None, compute: Compute) -> Tensor | None:
    return None if tensor is None else tensor.to(compute.device)
