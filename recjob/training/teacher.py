"""Recipe: train the teacher with the N-pair loss (Sec. 3.2.1, Eq. 10)."""

from __future__ import annotations

import torch
from torch import Tensor

from recjob.catalog.split import Part
from recjob.model.losses import n_pair_loss
from recjob.model.recommender import OutfitRecommender, unit
from recjob.settings import Settings
from recjob.training.compute import choose_compute
from recjob.training.data import Batch, BatchSource, TrainingData, unique_items
from recjob.training.fit import (
    Progress,
    TrainedModel,
    best_validation,
    fit,
    seeded_generator,
)
from recjob.training.pictures import encode_sets
from recjob.training.validation import Validator
from recjob.training.weights import start_backbone


def train_teacher(
    data: TrainingData,
    settings: Settings,
    autoencoder_trunk: dict[str, Tensor] | None = None,
    on_progress: Progress | None = None,
) -> TrainedModel:
    """Train `settings.teacher`; the best epoch on the teacher's validation half is kept.

    Args:
        data: positives and pictures.
        settings: all settings; `teacher`, `evaluation` and `seed` matter most.
        autoencoder_trunk: where the trunk starts with `weights = "autoencoder"`.
        on_progress: told after every step.

    Raises:
        RecjobError: where the loss or a gradient is not finite.
        SettingsError, DataError: where the trunk's weights cannot be had.
    """
    options = settings.teacher
    torch.manual_seed(settings.seed)
    compute = choose_compute(settings.compute)
    model = OutfitRecommender(options.size, data.users.size, options.dropout)
    start_backbone(model.backbone, options.weights, autoencoder_trunk)
    model.to(compute.device).to(memory_format=torch.channels_last)
    source = BatchSource(
        data,
        options.batch_size,
        options.negatives_per_positive,
        options.hard_share,
        options.negative_mixes,
        settings.seed,
    )
    validator = Validator(data, Part.VALIDATION_TEACHER, settings, compute, settings.seed)
    flips = seeded_generator(settings.seed, 1)

    def loss_of(batch: Batch) -> Tensor:
        sets = unique_items(batch.outfits, batch.negatives)
        positives, negatives = encode_sets(model, data, sets, compute, options.flip, flips)
        users = unit(model.users(batch.users.to(compute.device)))
        positive = (users * unit(positives)).sum(dim=1)
        negative = users @ unit(negatives).T
        valid = None if batch.valid is None else batch.valid.to(compute.device)
        return n_pair_loss(positive, negative, options.temperature, valid)

    epochs = fit(model, None, source, loss_of, validator, options, on_progress)
    return TrainedModel(model, best_validation(epochs), epochs, {})
