"""Recipe: train the teacher with the N-pair loss (Sec. 3.2.1, Eq. 10)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recjob.catalog.split import Part
from recjob.model.losses import n_pair_loss
from recjob.model.recommender import OutfitRecommender, unit
from recjob.settings import Settings, TeacherSettings
from recjob.training.checkpoint import CheckpointFolder, keeper_of, split_and_pictures
from recjob.training.compute import Compute, choose_compute
from recjob.training.data import BatchSource, TrainingData
from recjob.training.distributed import Ranks, current_ranks
from recjob.training.fit import Progress, TrainedModel, best_validation, fit
from recjob.training.frozen_features import freeze_trunk
from recjob.training.model_setup import make_ready
from recjob.training.pictures import StepInput, StepSource, encode_sets
from recjob.training.validation import Validator
from recjob.training.weights import start_backbone


def train_teacher(
    data: TrainingData,
    settings: Settings,
    autoencoder_trunk: dict[str, Tensor] | None = None,
    on_progress: Progress | None = None,
    checkpoints: CheckpointFolder | None = None,
) -> TrainedModel:
    """Train `settings.teacher`; the best epoch on the teacher's validation half is kept.

    Args:
        data: positives and pictures.
        settings: all settings; `teacher`, `evaluation` and `seed` matter most.
        autoencoder_trunk: where the trunk starts with `weights = "autoencoder"`.
        on_progress: told after every step.
        checkpoints: where the state is saved; a training that was cut short goes on from there.

    Raises:
        RecjobError: where the loss or a gradient is not finite.
        SettingsError, DataError: where the trunk's weights cannot be had.
    """
    options, seed = settings.teacher, settings.seed
    torch.manual_seed(seed)
    compute, ranks = choose_compute(settings.compute), current_ranks()
    model = OutfitRecommender(options.size, data.users.size, options.dropout, options.backbone)
    start_backbone(model.backbone, options.weights, autoencoder_trunk)
    make_ready(model, options, compute)
    frozen = freeze_trunk(model, data, settings, options, compute, ranks, on_progress)
    batches = BatchSource.of(data, options, seed, ranks)
    source = StepSource(data, batches, options.flip, seed, ranks, frozen=frozen)
    validator = Validator(data, Part.VALIDATION_TEACHER, settings, compute, seed, frozen)
    step = TeacherStep(model, options, compute, ranks)
    inputs = split_and_pictures(data)
    keeper = keeper_of(
        "teacher", checkpoints, data.catalog, settings, options, step, ranks, *inputs
    )
    epochs = fit(
        step, model, source, validator, options, seed, on_progress, keeper=keeper, ranks=ranks
    )
    return TrainedModel(model, best_validation(epochs), epochs, {})


class TeacherStep(nn.Module):
    """The loss of one step."""

    def __init__(
        self, model: OutfitRecommender, options: TeacherSettings, compute: Compute, ranks: Ranks
    ) -> None:
        super().__init__()
        self.model = model
        self._options = options
        self._compute = compute
        self._ranks = ranks

    def forward(self, step: StepInput) -> Tensor:
        """N-pair loss (Eq. 10) of this process's rows against all negatives."""
        batch = step.batch
        positives, negatives = encode_sets(self.model, step, self._compute, self._ranks)
        users = unit(self.model.users(batch.users[batch.own]))
        positive = (users * unit(positives[batch.own])).sum(dim=1)
        negative = users @ unit(negatives).T
        return n_pair_loss(positive, negative, self._options.temperature, batch.valid)
