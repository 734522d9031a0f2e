"""Compute one run: train, measure on the study's lists, keep."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from recjob.catalog.catalog import PADDING, Float32Array
from recjob.catalog.evaluation_lists import EvaluationLists
from recjob.evaluation.metrics import GroupedMetrics
from recjob.evaluation.protocol import metrics_per_user, model_scores
from recjob.inference.embedding import embed_items, user_unit_vectors
from recjob.inference.model_files import save_autoencoder, save_recommender
from recjob.inference.torch_engine import TorchEngine
from recjob.model.autoencoder import Autoencoder
from recjob.model.recommender import FEATURE_DIM, OutfitRecommender
from recjob.paper.run import FEATURES_FILE, METRICS, ListKind, PerUser, Run, write_run
from recjob.paper.run_spec import RunSpec, uses_replace
from recjob.paper.shop import Progress, teacher_size
from recjob.paper.study import Study
from recjob.settings import Settings, TrainingSettings
from recjob.training.autoencoder import encode_latents, latent_neighbours, train_autoencoder
from recjob.training.checkpoint import CheckpointFolder
from recjob.training.compute import Compute, choose_compute
from recjob.training.data import TrainingData
from recjob.training.distributed import Ranks
from recjob.training.fit import TrainedModel
from recjob.training.frozen_features import freeze_trunk
from recjob.training.student import distill
from recjob.training.teacher import train_teacher
from recjob.training.teacher_scores import FrozenTeacher

FEATURES_KEY: Final = "features"
CHECKPOINTS_PREFIX: Final = ".unfinished-"
"""Beside a run's folder: the checkpoints of a training that is under way."""


@dataclass(frozen=True)
class Measured:
    """What a model does on the study's lists."""

    quality: dict[str, dict[str, float]]
    per_user: dict[ListKind, PerUser]
    validation_auc: float | None


def compute_run(study: Study, spec: RunSpec, progress: Progress) -> Run:
    """Train and measure what `spec` says and keep it; its parents are there.

    Raises RecjobError where the training fails.
    """
    begin = time.monotonic()
    if spec.role == "autoencoder":
        return _compute_autoencoder(study, spec, progress, begin)
    settings = spec.settings
    compute = choose_compute(settings.compute)
    autoencoder = None
    if spec.autoencoder is not None:
        autoencoder = study.run(spec.autoencoder).load_autoencoder()
    section = settings.teacher if spec.role == "teacher" else settings.student
    trunk = None
    if autoencoder is not None and section.weights == "autoencoder":
        trunk = dict(autoencoder.backbone.trunk.state_dict())
    data = data_of(study, spec)
    checkpoints = CheckpointFolder(checkpoint_folder(study, spec))
    if spec.role == "teacher":
        trained = train_teacher(data, settings, trunk, progress, checkpoints)
    else:
        teacher = None if spec.teacher is None else frozen_teacher(study, spec.teacher)
        neighbours = torch.full((data.catalog.n_items, 1), PADDING)
        if autoencoder is not None and uses_replace(settings.student):
            neighbours = _neighbours(autoencoder, study, settings, compute)
        trained = distill(data, settings, teacher, neighbours, trunk, progress, checkpoints)
    features = item_features(trained.model, data, settings, compute, section)
    measured = measure(study, trained.model, features, settings, compute)
    user_ids = tuple(data.catalog.user_ids[user] for user in data.users)
    size = teacher_size(settings) if spec.role == "teacher" else settings.images.size

    def write_model(folder: Path) -> None:
        save_recommender(folder, trained.model, user_ids, size)
        if spec.role == "teacher":
            save_file({FEATURES_KEY: features}, folder / FEATURES_FILE)

    run = _record(study, spec, compute, begin, trained, measured)
    write_run(run, measured.per_user, write_model)
    return run


def data_of(study: Study, spec: RunSpec) -> TrainingData:
    """The data with the pictures that a run sees."""
    return study.teacher_data if spec.role == "teacher" else study.data


def item_features(
    model: OutfitRecommender,
    data: TrainingData,
    settings: Settings,
    compute: Compute,
    options: TrainingSettings | None = None,
) -> Float32Array:
    """`(n_items, 128)` features of every item with a picture; zeros for the others.

    `options` are what the model was trained with: what a frozen trunk saw is not read again.
    """
    batch_size = settings.embed.batch_size
    features = np.zeros((data.catalog.n_items, FEATURE_DIM), np.float32)
    usable = np.flatnonzero(data.catalog.item_usable)
    frozen = None
    if options is not None:
        frozen = freeze_trunk(model, data, settings, options, compute, Ranks())
    if frozen is None:
        engine = TorchEngine(model, compute.device, compute.bf16)
        features[usable] = embed_items(engine, data.pixels, data.picture_rows[usable], batch_size)
    else:
        features[usable] = frozen.item_features(model, usable, batch_size, compute)
    return features


def measure(
    study: Study,
    model: OutfitRecommender,
    features: Float32Array,
    settings: Settings,
    compute: Compute,
) -> Measured:
    """Rank the study's lists by a model with the item features that it gives."""
    data = study.data
    engine = TorchEngine(model, compute.device, compute.bf16)
    users = user_unit_vectors(model)

    def metrics(lists: EvaluationLists) -> GroupedMetrics:
        vectors = users[data.model_row[lists.user]]
        batch_size = settings.embed.batch_size
        scores = model_scores(engine, features, vectors, lists, batch_size)
        return metrics_per_user(lists, scores)

    per_user: dict[ListKind, PerUser] = {}
    for kind, lists in study.lists.items():
        found = metrics(lists)
        ids = tuple(data.catalog.user_ids[user] for user in found.group)
        per_user[kind] = PerUser(ids, found.auc, found.ndcg_mean, found.ndcg)
    validation = None
    if len(study.validation_lists.user):
        validation = float(metrics(study.validation_lists).auc.mean())
    quality = {
        str(kind): {name: float(getattr(users, name).mean()) for name in METRICS}
        for kind, users in per_user.items()
    }
    return Measured(quality, per_user, validation)


@lru_cache(maxsize=1)
def _features_of(folder: Path) -> Float32Array:
    """A teacher's item features; many students in a row ask for the same."""
    features: Float32Array = load_file(folder / FEATURES_FILE)[FEATURES_KEY]
    return features


def frozen_teacher(study: Study, spec: RunSpec) -> FrozenTeacher:
    """A finished teacher with its item features, which were computed when it was trained."""
    run = study.run(spec)
    stored = run.load()
    vectors = user_unit_vectors(stored.model)
    return FrozenTeacher(stored.model, _features_of(run.folder), vectors)


def checkpoint_folder(study: Study, spec: RunSpec) -> Path:
    """Where the checkpoints of an unfinished run lie."""
    folder = study.run_folder(spec)
    return folder.with_name(CHECKPOINTS_PREFIX + folder.name)


def _neighbours(
    autoencoder: Autoencoder, study: Study, settings: Settings, compute: Compute
) -> torch.Tensor:
    data = study.data
    latents = encode_latents(
        autoencoder,
        data.catalog,
        data.pixels,
        data.picture_rows,
        settings.autoencoder.batch_size,
        compute,
    )
    count = settings.student.replace_neighbours
    return torch.from_numpy(latent_neighbours(latents, data.catalog, count))


def _compute_autoencoder(study: Study, spec: RunSpec, progress: Progress, begin: float) -> Run:
    data, settings = study.data, spec.settings
    trained = train_autoencoder(data.catalog, data.pixels, data.picture_rows, settings, progress)
    compute = choose_compute(settings.compute)
    run = _record(study, spec, compute, begin, None, None, trained.losses)
    options = settings.autoencoder
    write_run(
        run,
        {},
        lambda folder: save_autoencoder(
            folder, trained.model, options.image_size, options.latent_dim
        ),
    )
    return run


def _record(
    study: Study,
    spec: RunSpec,
    compute: Compute,
    begin: float,
    trained: TrainedModel | None,
    measured: Measured | None,
    losses: tuple[float, ...] = (),
) -> Run:
    epochs: list[dict[str, float | None]] = [{"loss": loss} for loss in losses]
    seconds = time.monotonic() - begin
    if trained is not None:
        epochs = [
            {
                "loss": epoch.loss,
                "validation_auc": None if epoch.validation is None else epoch.validation.auc,
                "seconds": epoch.seconds,
            }
            for epoch in trained.epochs
        ]
        # Of all attempts, where the training was cut short and went on from a checkpoint.
        seconds = max(seconds, sum(epoch.seconds for epoch in trained.epochs))
    return Run(
        key=spec.key,
        role=spec.role,
        label=spec.label,
        settings=spec.section.model_dump(mode="json"),
        seed=spec.settings.seed,
        hard=spec.hard,
        frozen=spec.frozen,
        quality={} if measured is None else measured.quality,
        validation_auc=None if measured is None else measured.validation_auc,
        seconds=seconds,
        device=str(compute),
        epochs=epochs,
        notes={} if trained is None else dict(trained.notes),
        folder=study.run_folder(spec),
    )
