"""Job `report`: the page of the published run, with pictures of what users like and get."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recjob.catalog.catalog import PADDING, Catalog, Int64Array
from recjob.errors import NotFoundError
from recjob.jobs.home import REPORT_FOLDER
from recjob.jobs.original_pictures import OriginalPictures
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import Shop, read_student_shop
from recjob.report.page import (
    MethodQuality,
    QuarantinedItem,
    ReportItem,
    ReportOutfit,
    ReportPage,
    ReportUser,
    StageCost,
    UserKind,
    write_page,
)
from recjob.report.pictures import jpeg
from recjob.store.catalog_store import quarantined_items
from recjob.store.ledger import RunRow, last_done
from recjob.store.publication import publication_row
from recjob.store.recommendations import RecommendedOutfit, recommendations_of, users_shown
from recjob.store.run_lists import KINDS
from recjob.store.run_queries import KeptRun, kept_run

PICTURE_SIDE: Final = 160
"""Longer side in pixels of a garment on the page."""
JOBS: Final = (
    "import",
    "train-autoencoder",
    "train-teacher",
    "distill",
    "compile",
    "gate",
    "embed",
    "nightly-recommend",
    "evaluate",
)
"""Jobs whose last run the page tells of."""


class ReportResult(JobResult):
    """The page."""

    report: str
    users: int


def make_report(context: JobContext) -> ReportResult:
    """Write the page of the published run; NotFoundError where none is published."""
    with context.stage("read"):
        shop, _, _ = read_student_shop(context)
        with context.database.connect() as connection:
            done = {job: run for job in JOBS if (run := last_done(connection, job)) is not None}
            quarantined = quarantined_items(connection)
            current, _ = publication_row(connection)
            if current is None:
                raise NotFoundError(
                    "no run is published; run `python cli.py nightly-recommend` first"
                )
    with context.stage("pictures") as stage:
        pictures = OriginalPictures.of(context, shop, PICTURE_SIDE)
        users = _users(context, shop, pictures)
        stage.items = len(users)
    path = context.settings.home / REPORT_FOLDER / "index.html"
    with context.stage("write"), context.database.connect() as connection:
        published = kept_run(connection, current)
        write_page(
            path,
            ReportPage(
                title="Outfits for every user",
                generated=datetime.now(UTC),
                run_id=str(published.run_id),
                figures=_figures(shop.catalog, published),
                stages=tuple(_cost(job, run) for job, run in done.items()),
                quality=_quality(done.get("evaluate")),
                users=users,
                quarantined=tuple(
                    QuarantinedItem(item, reason) for item, reason in quarantined.items()
                ),
            ),
        )
    return ReportResult(report=str(path.resolve()), users=len(users))


def _users(context: JobContext, shop: Shop, pictures: OriginalPictures) -> tuple[ReportUser, ...]:
    """Some users of each kind who have a list, spread evenly over all."""
    count = context.settings.report.users_per_kind
    result = []
    for kind in KINDS:
        with context.database.connect() as connection:
            ids = users_shown(connection, kind)
        places = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)
        users = np.searchsorted(np.array(shop.catalog.user_ids), [ids[place] for place in places])
        result += [_user(context, shop, pictures, int(user), kind) for user in users]
    return tuple(result)


def _user(
    context: JobContext, shop: Shop, pictures: OriginalPictures, user: int, kind: UserKind
) -> ReportUser:
    catalog = shop.catalog
    most = context.settings.report.outfits_per_user
    liked = catalog.positives[catalog.positives[:, 0] == user, 1][:most]
    with context.database.connect() as connection:
        served = recommendations_of(connection, catalog.user_ids[user])
    return ReportUser(
        user_id=catalog.user_ids[user],
        kind=kind,
        liked=tuple(
            _outfit(shop, pictures, catalog.outfit_ids[outfit], catalog.outfit_items[outfit], None)
            for outfit in liked
        ),
        recommended=tuple(
            _outfit(shop, pictures, outfit.outfit_id, _items(catalog, outfit), outfit.score)
            for outfit in served.outfits[:most]
        ),
    )


def _items(catalog: Catalog, outfit: RecommendedOutfit) -> Int64Array:
    """The items of a recommended outfit, which may be a mix that is not in the catalog."""
    ids = [item.item_id for item in outfit.items]
    return np.searchsorted(np.array(catalog.item_ids), ids)


def _outfit(
    shop: Shop,
    pictures: OriginalPictures,
    outfit_id: str,
    items: NDArray[Any],
    score: float | None,
) -> ReportOutfit:
    catalog = shop.catalog
    usable = [int(item) for item in items if item != PADDING and catalog.item_usable[item]]
    return ReportOutfit(
        outfit_id=outfit_id,
        score=score,
        items=tuple(
            ReportItem(
                item_id=catalog.item_ids[item],
                category=catalog.categories[catalog.item_category[item]],
                picture=jpeg(pictures.pixels(item), PICTURE_SIDE),
            )
            for item in usable
        ),
    )


def _figures(catalog: Catalog, published: KeptRun) -> tuple[tuple[str, str], ...]:
    figures = {
        "items": catalog.n_items,
        "outfits": catalog.n_outfits,
        "warm users": published.users.get("warm", 0),
        "cold starters": published.users.get("cold", 0),
        "strangers": published.users.get("stranger", 0),
    }
    if "candidates" in published.statistics:  # runs of older versions have none
        figures["candidates"] = published.statistics["candidates"]
    return tuple((name, f"{count:,}") for name, count in figures.items())


def _cost(job: str, run: RunRow) -> StageCost:
    ended = run.ended or run.heartbeat
    peak = max((stage["peak_memory_bytes"] for stage in run.stages), default=0)
    return StageCost(job, (ended - run.started).total_seconds(), peak)


def _quality(run: RunRow | None) -> tuple[MethodQuality, ...]:
    if run is None:
        return ()
    return tuple(
        MethodQuality(row["method"], row["auc"], row["ndcg_mean"]) for row in run.counts["quality"]
    )
