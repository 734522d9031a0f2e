"""Job `distill`: the student from the teacher, by FND-CL (Sec. 3.2.2 to 3.4)."""

from __future__ import annotations

import torch

from recjob.jobs.progress import progress_bar
from recjob.jobs.train_teacher import TrainedResult, save_trained
from recjob.jobs.training_site import TrainingSite, training_data
from recjob.training.autoencoder import encode_latents, latent_neighbours
from recjob.training.compute import choose_compute
from recjob.training.student import distill as train
from recjob.training.teacher_scores import freeze_teacher


def distill(site: TrainingSite) -> TrainedResult:
    """Distil the student of the settings from the teacher in use, and take it into use."""
    settings = site.settings
    options = settings.student
    with site.stage("read"):
        shop = site.read_shop()
        data = training_data(shop, settings)
        teacher_id, stored = site.recommender("teacher")
        _, autoencoder = site.autoencoder()
    with site.stage("teacher features") as stage:
        compute = choose_compute(settings.compute)
        with progress_bar("teacher features", shop.catalog.n_items) as bar:
            teacher = freeze_teacher(
                stored.model,
                stored.user_ids,
                data,
                settings,
                compute,
                on_progress=bar.by,
            )
        stage.items = shop.catalog.n_items
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
    with site.stage("train") as stage, progress_bar("student") as bar:
        trunk = (
            dict(autoencoder.backbone.trunk.state_dict())
            if options.weights == "autoencoder"
            else None
        )
        trained = train(data, settings, teacher, neighbours, trunk, bar.to)
        stage.items = len(data.training_positives) * len(trained.epochs)
    with site.stage("save"):
        return save_trained(site, "student", options, trained, data, teacher_id)
