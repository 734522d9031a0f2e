"""Recipe: distil the student with FND-CL (Sec. 3.2.2, 3.3, 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recjob.catalog.split import Part
from recjob.model.augment import augment_pair
from recjob.model.losses import (
    bpr_loss,
    false_negativeness,
    fnd_loss,
    n_pair_loss,
    nt_xent_loss,
    user_contrastive_loss,
)
from recjob.model.recommender import ContrastiveProjection, OutfitRecommender, unit
from recjob.settings import Settings, StudentSettings
from recjob.training.alpha_schedule import alpha_factor
from recjob.training.checkpoint import CheckpointFolder, keeper_of, split_and_pictures
from recjob.training.compute import Compute, choose_compute
from recjob.training.data import Batch, BatchSource, TrainingData
from recjob.training.distributed import Ranks, current_ranks
from recjob.training.fit import Progress, TrainedModel, best_validation, fit
from recjob.training.frozen_features import freeze_trunk
from recjob.training.model_setup import make_ready
from recjob.training.pictures import StepInput, StepSource, encode_sets
from recjob.training.teacher_scores import FrozenTeacher, TeacherScores
from recjob.training.validation import Validator
from recjob.training.weights import start_backbone


def distill(
    data: TrainingData,
    settings: Settings,
    teacher: FrozenTeacher | None,
    neighbours: Tensor,
    autoencoder_trunk: dict[str, Tensor] | None = None,
    on_progress: Progress | None = None,
    checkpoints: CheckpointFolder | None = None,
) -> TrainedModel:
    """Train `settings.student`; the best epoch on the student's validation half is kept.

    Args:
        data: positives and pictures.
        settings: all settings; `student`, `evaluation` and `seed` matter most.
        teacher: its item features are computed already; only its Set Transformer runs here. Only
            the FND loss needs one.
        neighbours: `(n_items, K)` int64 for *replace*, -1 padding.
        autoencoder_trunk: where the trunk starts with `weights = "autoencoder"`.
        on_progress: told after every step.
        checkpoints: where the state is saved; a training that was cut short goes on from there.

    The notes of the result hold the teacher's gap, alpha, the mean d of the steps and of the last
    epoch, and the share of negatives with d < 0.

    Raises:
        RecjobError: where the loss or a gradient is not finite.
        SettingsError, DataError: where the trunk's weights cannot be had.
    """
    options, seed = settings.student, settings.seed + 1
    torch.manual_seed(seed)
    compute, ranks = choose_compute(settings.compute), current_ranks()
    model = OutfitRecommender(options.size, data.users.size, options.dropout, options.backbone)
    start_backbone(model.backbone, options.weights, autoencoder_trunk)
    make_ready(model, options, compute)
    frozen = freeze_trunk(model, data, settings, options, compute, ranks, on_progress)
    neighbours = neighbours[:, : options.replace_neighbours]

    def views(outfits: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor]:
        return augment_pair(outfits, options.augmentations, neighbours, draws)

    contrastive = options.contrastive_weight > 0
    batches = BatchSource.of(data, options, seed, ranks)
    altered = views if contrastive else None
    source = StepSource(data, batches, options.flip, seed, ranks, altered, frozen)
    validator = Validator(data, Part.VALIDATION_STUDENT, settings, compute, settings.seed, frozen)
    judge = None
    if options.loss == "fnd":
        if teacher is None:
            raise ValueError("the FND loss needs a teacher")
        judge = TeacherScores(data, teacher, compute, settings.seed)
    alpha = options.alpha if judge is None else judge.alpha(options)
    step = StudentStep(model, judge, alpha, source.steps, options, compute, ranks)
    taught = () if teacher is None else (teacher.user_vectors, teacher.features)
    inputs = (*split_and_pictures(data), neighbours, *taught)
    keeper = keeper_of(
        "student", checkpoints, data.catalog, settings, options, step, ranks, *inputs
    )
    epochs = fit(
        step, model, source, validator, options, seed, on_progress, keeper=keeper, ranks=ranks
    )
    notes = {} if judge is None else judge.notes(alpha)
    return TrainedModel(model, best_validation(epochs), epochs, notes)


class StudentStep(nn.Module):
    """The loss of one step."""

    def __init__(
        self,
        model: OutfitRecommender,
        judge: TeacherScores | None,
        alpha: float,
        steps_per_epoch: int,
        options: StudentSettings,
        compute: Compute,
        ranks: Ranks,
    ) -> None:
        super().__init__()
        self.model = model
        self.projection: nn.Module | None = None
        if options.contrastive_weight > 0:
            self.projection = ContrastiveProjection().to(compute.device)
        self._judge = judge
        self._alpha = alpha
        self._steps_per_epoch = steps_per_epoch
        self._options = options
        self._compute = compute
        self._ranks = ranks

    def forward(self, step: StepInput) -> Tensor:
        """Eq. 19: FND (or what it is compared with) of this process's rows, and contrast."""
        batch, options = step.batch, self._options
        encoded = encode_sets(self.model, step, self._compute, self._ranks)
        users = unit(self.model.users(batch.users[batch.own]))
        positive = (users * unit(encoded[0][batch.own])).sum(dim=1)
        negative = users @ unit(encoded[1]).T
        if self._judge is not None:
            d = false_negativeness(*self._judge.of(batch), self._alpha * self._factor(batch))
            self._judge.count(d if batch.valid is None else d[batch.valid], batch.epoch)
            loss = fnd_loss(positive, negative, d, options.temperature, batch.valid)
        elif options.loss == "n-pair":
            loss = n_pair_loss(positive, negative, options.temperature, batch.valid)
        else:
            drawn = options.negatives_per_positive
            own = negative[:, batch.own.start * drawn :: drawn].diagonal()
            loss = bpr_loss(positive, own, options.temperature)
        if self.projection is not None:
            first, second = self.projection(encoded[2]), self.projection(encoded[3])
            temperature = options.contrastive_temperature
            if options.contrastive == "users":
                agreement = user_contrastive_loss(first, second, batch.users, temperature)
            else:
                agreement = nt_xent_loss(first, second, temperature)
            loss = loss + options.contrastive_weight * agreement
        return loss

    def get_extra_state(self) -> Tensor:
        """What the notes will say of d, for a checkpoint."""
        return torch.empty(0, 4) if self._judge is None else self._judge.state()

    def set_extra_state(self, state: Tensor) -> None:
        """Undo `get_extra_state`."""
        if self._judge is not None:
            self._judge.restore(state)

    def _factor(self, batch: Batch) -> float:
        """What alpha is multiplied by in this step of the training."""
        options, steps = self._options, self._steps_per_epoch
        step = (batch.epoch - 1) * steps + batch.step - 1
        return alpha_factor(
            options.alpha_schedule, options.alpha_start, step, steps * options.epochs
        )
