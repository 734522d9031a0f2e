"""Job `distill`: the student from the teacher, by FND-CL (Sec. 3.2.2 to 3.4)."""

from __future__ import annotations

import torch

from recjob.jobs.progress import progress_bar
from recjob.jobs.runner import JobContext
from recjob.jobs.train_teacher import TrainedResult, save_and_register, trained_result
from recjob.jobs.workspace import (
    load_active_autoencoder,
    load_active_recommender,
    read_shop,
    training_data,
)
from recjob.training.autoencoder import encode_latents, latent_neighbours
from recjob.training.compute import choose_compute
from recjob.training.student import distill as train
from recjob.training.teacher_scores import freeze_teacher


def distill(context: JobContext) -> TrainedResult:
    """Distil the student of the settings from the active teacher and make it the active one."""
    settings = context.settings
    options = settings.student
    with context.stage("read"):
        shop = read_shop(context)
        data = training_data(shop, settings)
        teacher_row, stored = load_active_recommender(context, "teacher")
        autoencoder_row, autoencoder = load_active_autoencoder(context)
        context.freeze(teacher=teacher_row.model_id, autoencoder=autoencoder_row.model_id)
    with context.stage("teacher features") as stage:
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
    with context.stage("neighbours") as stage:
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
    with context.stage("train") as stage, progress_bar("student") as bar:
        trunk = (
            dict(autoencoder.backbone.trunk.state_dict())
            if options.weights == "autoencoder"
            else None
        )
        trained = train(data, settings, teacher, neighbours, trunk, bar.to)
        stage.items = len(data.training_positives) * len(trained.epochs)
    with context.stage("save"):
        section = options.model_dump(mode="json")
        model_id = save_and_register(
            context, "student", trained, data, teacher_row.model_id, section
        )
    return trained_result(model_id, trained, data)
