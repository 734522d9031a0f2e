"""What `bench train` runs: the steps of the recipes and those of their straightforward rival."""

from __future__ import annotations

import copy
from collections.abc import Generator
from contextlib import closing
from functools import cached_property
from itertools import count
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from recjob.bench.shop import CALIBRATION_PICTURES, spread_features
from recjob.bench.straightforward import StraightforwardStudent, StraightforwardTeacher
from recjob.model.augment import augment_pair
from recjob.model.recommender import FEATURE_DIM, ContrastiveProjection, OutfitRecommender
from recjob.settings import Settings, StudentSettings, TeacherSettings
from recjob.training.autoencoder import latent_neighbours
from recjob.training.compute import Compute, choose_compute
from recjob.training.data import Batch, BatchSource, TrainingData
from recjob.training.distributed import Ranks
from recjob.training.frozen_features import FrozenFeatures, freeze_trunk
from recjob.training.model_setup import make_ready
from recjob.training.pictures import StepInput, StepSource
from recjob.training.prefetch import prefetched
from recjob.training.student import StudentStep
from recjob.training.teacher import TeacherStep
from recjob.training.teacher_scores import FrozenTeacher, TeacherScores

Recipe = Literal["teacher", "student"]

LATENT_DIM = 8
"""Of the random codes that stand in for an autoencoder's: only their neighbours are used."""


class StepBuilder:
    """Makes both loops' steps of a recipe, on the same data and draws.

    The student's teacher is untrained and its features are random: they cost what real ones do.
    """

    def __init__(self, recipe: Recipe, data: TrainingData, settings: Settings) -> None:
        self.recipe = recipe
        self.options: TeacherSettings | StudentSettings = getattr(settings, recipe)
        self.compute = choose_compute(settings.compute)
        self._data = data
        self._settings = settings
        self._seed = settings.seed
        self._ranks = Ranks()
        torch.manual_seed(settings.seed)
        self._untrained = OutfitRecommender(
            self.options.size, data.users.size, self.options.dropout
        )
        usable = np.flatnonzero(data.catalog.item_usable)[:CALIBRATION_PICTURES]
        spread_features(self._untrained, data.gather(usable))
        self._batches = BatchSource.of(data, self.options, self._seed, self._ranks)
        if isinstance(self.options, StudentSettings):
            random = np.random.default_rng(settings.seed)
            self._neighbours = _neighbours(data, self.options.replace_neighbours, random)
            self._judge = TeacherScores(
                data, _frozen_teacher(data, random), self.compute, settings.seed
            )

    @property
    def batch_size(self) -> int:
        """Positives per step."""
        return len(next(self.batches()).users)

    @property
    def negatives(self) -> int:
        """Negatives that all positives of a step share."""
        return len(next(self.batches()).negatives)

    def batches(self) -> Generator[Batch]:
        """What the straightforward loop reads: batches, from epoch to epoch."""
        for epoch in count(1):
            yield from self._batches.epoch(epoch)

    def inputs(self, frozen: bool = False) -> Generator[StepInput]:
        """What ours reads: the same batches with their pictures, each once.

        With `frozen`, what the frozen trunk saw in them instead.
        """
        views = self._views if self.recipe == "student" else None
        source = StepSource(
            self._data,
            self._batches,
            self.options.flip,
            self._seed,
            self._ranks,
            views,
            self.frozen_features if frozen else None,
        )
        for epoch in count(1):
            with closing(prefetched(source.epoch(epoch), self.options.prefetch)) as ahead:
                for inputs in ahead:
                    yield inputs.to(self.compute.device)

    def straightforward(self, compute: Compute) -> nn.Module:
        """The rival's loss, called with a Batch."""
        model = self._model().to(compute.device)
        if not isinstance(self.options, StudentSettings):
            return StraightforwardTeacher(model, self._data, self.options.temperature, compute)
        return StraightforwardStudent(
            model, self._data, self._judge, self.options, self._views, self._seed, compute
        )

    def ours(self, compute: Compute, frozen: bool = False) -> nn.Module:
        """The recipe's loss, called with a StepInput; with `frozen` the trunk does not learn."""
        model = self._model()
        make_ready(model, self.options, compute)
        if frozen:
            model.backbone.trunk.requires_grad_(False)
        if not isinstance(self.options, StudentSettings):
            return TeacherStep(model, self.options, compute, self._ranks)
        return StudentStep(
            model,
            self._judge,
            self.options.alpha,
            self._batches.steps,
            self.options,
            compute,
            self._ranks,
        )

    @cached_property
    def frozen_features(self) -> FrozenFeatures:
        """What the trunk sees in every picture, as `freeze_backbone` keeps it."""
        model = self._model()
        make_ready(model, self.options, self.compute)
        options = self.options.model_copy(update={"freeze_backbone": True})
        found = freeze_trunk(model, self._data, self._settings, options, self.compute, self._ranks)
        assert found is not None
        return found

    def start(self) -> dict[str, Tensor]:
        """The weights that every loop starts from."""
        parts: dict[str, nn.Module] = {"model": self._untrained}
        if self.recipe == "student":
            torch.manual_seed(self._seed)
            parts["projection"] = ContrastiveProjection()
        return {
            f"{part}.{name}": tensor
            for part, module in parts.items()
            for name, tensor in module.state_dict().items()
        }

    def _model(self) -> OutfitRecommender:
        return copy.deepcopy(self._untrained)

    def _views(self, outfits: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        assert isinstance(self.options, StudentSettings)
        return augment_pair(outfits, self.options.augmentations, self._neighbours, draws)


def _neighbours(data: TrainingData, count: int, random: np.random.Generator) -> Tensor:
    latents = random.standard_normal((data.catalog.n_items, LATENT_DIM), dtype=np.float32)
    return torch.from_numpy(latent_neighbours(latents, data.catalog, count))


def _frozen_teacher(data: TrainingData, random: np.random.Generator) -> FrozenTeacher:
    """An untrained one; of its model only the Set Transformer runs, which has one size."""
    features = random.standard_normal((data.catalog.n_items, FEATURE_DIM), dtype=np.float32)
    users = random.standard_normal((data.users.size, FEATURE_DIM), dtype=np.float32)
    users /= np.linalg.norm(users, axis=1, keepdims=True)
    return FrozenTeacher(OutfitRecommender("xs", data.users.size), features, users)
