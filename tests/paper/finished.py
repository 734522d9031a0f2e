"""A study of the tiny shop whose runs are finished: figures as given, without any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from recjob.catalog.evaluation_lists import evaluation_lists
from recjob.catalog.split import Part
from recjob.inference.model_files import save_recommender
from recjob.model.recommender import OutfitRecommender
from recjob.paper.execute import FEATURES_KEY, item_features
from recjob.paper.run import FEATURES_FILE, LIST_KINDS, METRICS, PerUser, Run, write_run
from recjob.paper.run_spec import RunSpec
from recjob.paper.study import Study
from tests.training.colours import SIDE, colour_catalog, colour_data, cpu, tiny_settings


def tiny_study(out: Path, **paper: Any) -> Study:
    """A study in which nothing is computed yet."""
    settings = tiny_settings(paper=paper)
    data = colour_data(settings, colour_catalog(per_user=30))
    lists = evaluation_lists(data.catalog, data.parts, Part.TEST, 2, seed=0)
    return Study(
        out=out,
        settings=settings,
        data=data,
        teacher_data=data,
        newcomers=None,
        lists=dict.fromkeys(LIST_KINDS, lists),
        validation_lists=lists,
        digest="d",
        newcomers_digest="",
        folder=out,
    )


def finish(study: Study, spec: RunSpec, auc: float, **notes: float) -> None:
    """Record a run; its validation AUC is 0.01 below the AUC, its NDCG 0.1."""
    one = {"auc": auc, "ndcg_mean": auc - 0.1, "ndcg": auc - 0.05}
    run = Run(
        key=spec.key,
        role=spec.role,
        label=spec.label,
        settings=spec.section.model_dump(mode="json"),
        seed=spec.settings.seed,
        hard=spec.hard,
        frozen=spec.frozen,
        quality={str(kind): one for kind in LIST_KINDS},
        validation_auc=auc - 0.01,
        seconds=1.0,
        device="cpu fp32",
        epochs=[],
        notes=notes,
        folder=study.run_folder(spec),
    )
    per_user = PerUser(("u0",), *(np.array([one[name]]) for name in METRICS))
    write_run(run, dict.fromkeys(LIST_KINDS, per_user), lambda folder: _model(study, spec, folder))


def _model(study: Study, spec: RunSpec, folder: Path) -> None:
    """A teacher with random weights; the figures read no other model."""
    if spec.role != "teacher":
        return
    data = study.teacher_data
    torch.manual_seed(spec.settings.seed)
    model = OutfitRecommender("xs", data.users.size).eval()
    ids = tuple(data.catalog.user_ids[user] for user in data.users)
    save_recommender(folder, model, ids, SIDE)
    features = item_features(model, data, study.settings, cpu())
    save_file({FEATURES_KEY: features}, folder / FEATURES_FILE)
