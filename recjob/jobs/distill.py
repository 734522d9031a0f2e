"""Job `distill`: the student from the teacher, by FND-CL (Sec. 3.2.2 to 3.4)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import torch

from recjob.catalog.catalog import PADDING
from recjob.jobs.pictures import open_pictures, with_pictures
from recjob.jobs.progress import progress_bar
from recjob.jobs.stopping import stopping_between_steps
from recjob.jobs.train_teacher import TrainedResult, save_trained
from recjob.jobs.training_site import TrainingSite, checkpoint_folder, training_data, trunk_of
from recjob.training.autoencoder import encode_latents, latent_neighbours
from recjob.training.compute import choose_compute
from recjob.training.student import distill as train
from recjob.training.teacher_scores import freeze_teacher

USUAL_MEAN_D: Final = (0.5, 2.0)
"""Where the mean of d may lie without a warning; 1 is the N-pair loss's own scale."""

log = logging.getLogger(__name__)


def distill(site: TrainingSite) -> TrainedResult:
    """Distil the student of the settings from the teacher in use: a candidate for the gate."""
    settings = site.settings
    options = settings.student
    with site.stage("read"):
        shop = site.read_shop()
        data = training_data(shop, settings)
        teacher_id, stored = site.recommender("teacher")
        # The teacher may see larger pictures of the same items.
        seen = with_pictures(shop.catalog, open_pictures(settings, stored.image_size))
        teacher_data = replace(data, pixels=seen.pictures.pixels, picture_rows=seen.picture_rows)
        replaces = options.contrastive_weight > 0 and "replace" in options.augmentations
        needed = replaces or options.weights == "autoencoder"
        autoencoder_id, autoencoder = site.autoencoder() if needed else (None, None)
    site.done_reading()
    with site.stage("teacher features") as stage:
        compute = choose_compute(settings.compute)
        with progress_bar("teacher features", shop.catalog.n_items) as bar:
            teacher = freeze_teacher(
                stored.model,
                stored.user_ids,
                teacher_data,
                settings,
                compute,
                on_progress=bar.by,
            )
        stage.items = shop.catalog.n_items
    neighbours = torch.full((shop.catalog.n_items, 1), PADDING)
    if replaces and autoencoder is not None:
        with site.stage("neighbours") as stage:
            latents = encode_latents(
                autoencoder,
                shop.catalog,
                shop.pictures.pixels,
                shop.picture_rows,
                settings.autoencoder.batch_size,
                compute,
            )
            neighbours = torch.from_numpy(
                latent_neighbours(latents, shop.catalog, options.replace_neighbours)
            )
            stage.items = shop.catalog.n_items
    checkpoints = checkpoint_folder(settings, "student")
    with site.stage("train") as stage, progress_bar("student") as bar, stopping_between_steps():
        trunk = None if autoencoder is None else trunk_of(autoencoder)
        trained = train(data, settings, teacher, neighbours, trunk, bar.to, checkpoints)
        stage.items = len(data.training_positives) * len(trained.epochs)
    warn_of_scale(trained.notes)
    with site.stage("save"):
        result = save_trained(site, "student", trained, data, teacher_id, autoencoder_id)
    checkpoints.remove()
    return result


def warn_of_scale(notes: Mapping[str, float]) -> None:
    """Say so where d (Eq. 12) is far from 1 on average: the student then learns too little.

    What counts is the last epoch, where a schedule has brought alpha to its value.
    """
    low, high = USUAL_MEAN_D
    mean_d = notes.get("final_mean_d")
    if mean_d is not None and not low <= mean_d <= high:
        log.warning(
            "mean d is %.2f, far from 1, so negatives are pushed %s than in the N-pair loss; "
            "set student.alpha_relative = 1, or look at the teacher's gap (%.3f)",
            mean_d,
            "harder" if mean_d > high else "less",
            notes["teacher_gap"],
        )
