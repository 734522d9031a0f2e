"""Job `train-teacher`: the large model with the N-pair loss (Sec. 3.2.1)."""

from __future__ import annotations

from recjob.inference.model_files import save_recommender
from recjob.jobs.model_record import new_record, training_metrics
from recjob.jobs.pictures import picture_size
from recjob.jobs.progress import progress_bar
from recjob.jobs.stages import JobResult
from recjob.jobs.stopping import stopping_between_steps
from recjob.jobs.training_site import TrainingSite, checkpoint_folder, training_data, trunk_of
from recjob.store.artifacts import Role
from recjob.training.data import TrainingData
from recjob.training.fit import TrainedModel
from recjob.training.teacher import train_teacher as train


class TrainedResult(JobResult):
    """A trained teacher or student."""

    model: str
    users: int
    """Users with a vector of their own."""
    positives: int
    """Training positives."""
    epochs: int
    validation_auc: float | None
    notes: dict[str, float]
    """What the recipe found on its way: the teacher's gap, alpha, mean d, share of d < 0."""
    next: str
    """What becomes of it, and what to do."""


def train_teacher(site: TrainingSite) -> TrainedResult:
    """Train the teacher on the catalog and take it into use."""
    settings = site.settings
    with site.stage("read"):
        data = training_data(site.read_shop(picture_size(settings, "teacher")), settings)
        autoencoder = site.autoencoder() if settings.teacher.weights == "autoencoder" else None
        trunk = None if autoencoder is None else trunk_of(autoencoder[1])
    site.done_reading()
    checkpoints = checkpoint_folder(settings, "teacher")
    with site.stage("train") as stage, progress_bar("teacher") as bar, stopping_between_steps():
        trained = train(data, settings, trunk, bar.to, checkpoints)
        stage.items = len(data.training_positives) * len(trained.epochs)
    with site.stage("save"):
        parent = None if autoencoder is None else autoencoder[0]
        result = save_trained(site, "teacher", trained, data, parent)
    checkpoints.remove()
    return result


def save_trained(
    site: TrainingSite,
    role: Role,
    trained: TrainedModel,
    data: TrainingData,
    parent: str | None,
    autoencoder: str | None = None,
) -> TrainedResult:
    """Keep a trained recommender and say what it is.

    `parent` is the model that it learned from; `autoencoder` the one that a student used, too.
    """
    settings, catalog = site.settings, data.catalog
    metrics = training_metrics(trained)
    if autoencoder is not None:
        metrics["autoencoder"] = autoencoder
    record = new_record(role, catalog, settings, metrics, parent)
    user_ids = tuple(catalog.user_ids[user] for user in data.users)
    side = picture_size(settings, role)
    next_step = site.save(
        record, lambda folder: save_recommender(folder, trained.model, user_ids, side)
    )
    return TrainedResult(
        model=record.model_id,
        users=data.users.size,
        positives=len(data.training_positives),
        epochs=len(trained.epochs),
        validation_auc=None if trained.validation is None else trained.validation.auc,
        notes=trained.notes,
        next=next_step,
    )
