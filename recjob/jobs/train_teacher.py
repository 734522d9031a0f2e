"""Job `train-teacher`: the large model with the N-pair loss (Sec. 3.2.1)."""

from __future__ import annotations

from recjob.catalog.catalog import Catalog
from recjob.inference.model_files import save_recommender
from recjob.jobs.progress import progress_bar
from recjob.jobs.runner import JobContext, JobResult
from recjob.jobs.workspace import autoencoder_trunk, read_shop, register_active, training_data
from recjob.store.artifacts import new_model_id
from recjob.store.models import Role
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


def train_teacher(context: JobContext) -> TrainedResult:
    """Train the teacher on the catalog and make it the active one."""
    settings = context.settings
    with context.stage("read"):
        shop = read_shop(context)
        data = training_data(shop, settings)
        trunk = autoencoder_trunk(context, settings.teacher.weights)
    with context.stage("train") as stage, progress_bar("teacher") as bar:
        trained = train(data, settings, trunk, bar.to)
        stage.items = len(data.training_positives) * len(trained.epochs)
    with context.stage("save"):
        section = settings.teacher.model_dump(mode="json")
        model_id = save_and_register(context, "teacher", trained, data, None, section)
    return trained_result(model_id, trained, data)


def save_and_register(
    context: JobContext,
    role: Role,
    trained: TrainedModel,
    data: TrainingData,
    parent: str | None,
    section: dict[str, object],
) -> str:
    """Write a trained recommender, register it, make it active; its id."""
    model_id = new_model_id(role)
    with context.artifacts.write_model(model_id) as folder:
        save_recommender(
            folder, trained.model, user_ids(data, data.catalog), context.settings.images.size
        )
    metrics: dict[str, object] = {
        "validation": None if trained.validation is None else trained.validation.as_dict(),
        "epochs": [
            {
                "loss": epoch.loss,
                "validation_auc": None if epoch.validation is None else epoch.validation.auc,
                "seconds": epoch.seconds,
            }
            for epoch in trained.epochs
        ],
        **trained.notes,
    }
    register_active(
        context,
        role,
        model_id,
        parent=parent,
        section=section,
        catalog=data.catalog,
        metrics=metrics,
    )
    return model_id


def user_ids(data: TrainingData, catalog: Catalog) -> tuple[str, ...]:
    """Ids of the warm users in the order of the model's rows."""
    return tuple(catalog.user_ids[user] for user in data.users)


def trained_result(model_id: str, trained: TrainedModel, data: TrainingData) -> TrainedResult:
    """The result of a job that trained a recommender."""
    return TrainedResult(
        model=model_id,
        users=data.users.size,
        positives=len(data.training_positives),
        epochs=len(trained.epochs),
        validation_auc=None if trained.validation is None else trained.validation.auc,
        notes=trained.notes,
    )
