"""Recipe: distil the student with FND-CL (Sec. 3.2.2, 3.3, 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor

from recjob.catalog.split import Part
from recjob.model.augment import augment_pair
from recjob.model.losses import (
    bpr_loss,
    false_negativeness,
    fnd_loss,
    n_pair_loss,
    nt_xent_loss,
)
from recjob.model.recommender import ContrastiveProjection, OutfitRecommender, unit
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
from recjob.training.teacher_scores import FrozenTeacher, TeacherScores
from recjob.training.validation import Validator
from recjob.training.weights import start_backbone


def distill(
    data: TrainingData,
    settings: Settings,
    teacher: FrozenTeacher,
    neighbours: Tensor,
    autoencoder_trunk: dict[str, Tensor] | None = None,
    on_progress: Progress | None = None,
) -> TrainedModel:
    """Train `settings.student`; the best epoch on the student's validation half is kept.

    Args:
        data: positives and pictures.
        settings: all settings; `student`, `evaluation` and `seed` matter most.
        teacher: its item features are computed already; only its Set Transformer runs here.
        neighbours: `(n_items, K)` int64 for *replace*, -1 padding.
        autoencoder_trunk: where the trunk starts with `weights = "autoencoder"`.
        on_progress: told after every step.

    The notes of the result hold the teacher's gap, alpha, the mean d of the steps and the share of
    negatives with d < 0.

    Raises:
        RecjobError: where the loss or a gradient is not finite.
        SettingsError, DataError: where the trunk's weights cannot be had.
    """
    options = settings.student
    torch.manual_seed(settings.seed + 1)
    compute = choose_compute(settings.compute)
    model = OutfitRecommender(options.size, data.users.size, options.dropout)
    start_backbone(model.backbone, options.weights, autoencoder_trunk)
    model.to(compute.device).to(memory_format=torch.channels_last)
    projection = ContrastiveProjection().to(compute.device)
    contrastive = options.contrastive_weight > 0
    source = BatchSource(
        data,
        options.batch_size,
        options.negatives_per_positive,
        options.hard_share,
        options.negative_mixes,
        settings.seed + 1,
    )
    validator = Validator(data, Part.VALIDATION_STUDENT, settings, compute, settings.seed)
    judge = TeacherScores(data, teacher, compute, settings.seed)
    alpha = judge.alpha(options)
    flips = seeded_generator(settings.seed, 2)
    augmentations = seeded_generator(settings.seed, 3)
    neighbours = neighbours[:, : options.replace_neighbours]

    def loss_of(batch: Batch) -> Tensor:
        outfit_sets = [batch.outfits, batch.negatives]
        if contrastive:
            outfit_sets += augment_pair(
                batch.outfits, options.augmentations, neighbours, augmentations
            )
        sets = unique_items(*outfit_sets)
        encoded = encode_sets(model, data, sets, compute, options.flip, flips)
        users = unit(model.users(batch.users.to(compute.device)))
        positive = (users * unit(encoded[0])).sum(dim=1)
        negative = users @ unit(encoded[1]).T
        valid = None if batch.valid is None else batch.valid.to(compute.device)
        if options.loss == "fnd":
            d = false_negativeness(*judge.of(batch), alpha)
            judge.count(d if valid is None else d[valid])
            loss = fnd_loss(positive, negative, d, options.temperature, valid)
        elif options.loss == "n-pair":
            loss = n_pair_loss(positive, negative, options.temperature, valid)
        else:
            own = negative[:, :: options.negatives_per_positive].diagonal()
            loss = bpr_loss(positive, own, options.temperature)
        if contrastive:
            first, second = projection(encoded[2]), projection(encoded[3])
            agreement = nt_xent_loss(first, second, options.contrastive_temperature)
            loss = loss + options.contrastive_weight * agreement  # Eq. 19
        return loss

    extra = projection if contrastive else None
    epochs = fit(model, extra, source, loss_of, validator, options, on_progress)
    notes = judge.notes(alpha) if options.loss == "fnd" else {}
    return TrainedModel(model, best_validation(epochs), epochs, notes)
