"""Job `train-autoencoder`: the autoencoder behind *replace* (Sec. 3.3.2)."""

from __future__ import annotations

from recjob.inference.model_files import save_autoencoder
from recjob.jobs.progress import progress_bar
from recjob.jobs.runner import JobContext, JobResult
from recjob.jobs.workspace import read_shop, register_active
from recjob.store.artifacts import new_model_id
from recjob.training.autoencoder import train_autoencoder as train


class AutoencoderResult(JobResult):
    """The trained autoencoder."""

    model: str
    epochs: int
    first_error: float
    """Mean squared error of the first epoch, of pixels in [0, 1]."""
    last_error: float


def train_autoencoder(context: JobContext) -> AutoencoderResult:
    """Train on every picture of the catalog and make it the active autoencoder."""
    settings = context.settings
    options = settings.autoencoder
    with context.stage("read"):
        shop = read_shop(context)
    with context.stage("train") as stage, progress_bar("autoencoder") as bar:
        trained = train(shop.catalog, shop.pictures.pixels, shop.picture_rows, settings, bar.to)
        stage.items = int(shop.catalog.item_usable.sum()) * options.epochs
    with context.stage("save"):
        model_id = new_model_id("autoencoder")
        metrics: dict[str, object] = {"errors": list(trained.losses)}
        with context.artifacts.write_model(model_id) as folder:
            save_autoencoder(folder, trained.model, options.image_size, options.latent_dim)
        register_active(
            context,
            "autoencoder",
            model_id,
            parent=None,
            section=options.model_dump(mode="json"),
            catalog=shop.catalog,
            metrics=metrics,
        )
    return AutoencoderResult(
        model=model_id,
        epochs=len(trained.losses),
        first_error=trained.losses[0],
        last_error=trained.losses[-1],
    )
