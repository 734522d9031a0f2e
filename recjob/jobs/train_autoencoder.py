"""Job `train-autoencoder`: the autoencoder behind *replace* (Sec. 3.3.2)."""

from __future__ import annotations

from recjob.errors import UserError
from recjob.inference.model_files import save_autoencoder
from recjob.jobs.model_record import new_record
from recjob.jobs.progress import progress_bar
from recjob.jobs.stages import JobResult
from recjob.jobs.stopping import stopping_between_steps
from recjob.jobs.training_site import TrainingSite, checkpoint_folder
from recjob.training.autoencoder import train_autoencoder as train
from recjob.training.distributed import started_together


class AutoencoderResult(JobResult):
    """The trained autoencoder."""

    model: str
    epochs: int
    first_error: float
    """Mean squared error of the first epoch, of pixels in [0, 1], and of their colour."""
    last_error: float
    next: str
    """What becomes of it, and what to do."""


def train_autoencoder(site: TrainingSite) -> AutoencoderResult:
    """Train on every picture of the catalog and take the autoencoder into use.

    Raises UserError where torchrun started several processes.
    """
    if started_together():
        raise UserError("train-autoencoder runs in one process; start it without torchrun")
    settings = site.settings
    options = settings.autoencoder
    with site.stage("read"):
        shop = site.read_shop()
    site.done_reading()
    checkpoints = checkpoint_folder(settings, "autoencoder")
    with site.stage("train") as stage, progress_bar("autoencoder") as bar, stopping_between_steps():
        pixels, rows = shop.pictures.pixels, shop.picture_rows
        trained = train(shop.catalog, pixels, rows, settings, bar.to, checkpoints)
        stage.items = int(shop.catalog.item_usable.sum()) * options.epochs
    with site.stage("save"):
        metrics = {"errors": list(trained.losses)}
        record = new_record("autoencoder", shop.catalog, settings, metrics)
        next_step = site.save(
            record,
            lambda folder: save_autoencoder(
                folder, trained.model, options.image_size, options.latent_dim
            ),
        )
    checkpoints.remove()
    return AutoencoderResult(
        model=record.model_id,
        epochs=len(trained.losses),
        first_error=trained.losses[0],
        last_error=trained.losses[-1],
        next=next_step,
    )
