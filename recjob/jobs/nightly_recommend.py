"""Job `nightly-recommend`: a list for every user, checked and published."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from recjob.catalog.catalog import PADDING, Catalog, Float32Array, Int32Array, Int64Array
from recjob.catalog.split import Part, part_positives, split_parts
from recjob.errors import RefusedError
from recjob.jobs.embed import warm_rows
from recjob.jobs.embeddings import Embeddings, refresh_embeddings
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import Shop, read_student_shop
from recjob.model.cold_start import cold_start_vectors
from recjob.ranking.candidates import Candidates, candidates
from recjob.ranking.popularity import popularity_scores
from recjob.ranking.top_k import top_k
from recjob.ranking.variety import varied_popular
from recjob.settings import ColdStartSettings, Settings
from recjob.store.publication import publish
from recjob.store.run_lists import KINDS, RunLists

WARM, COLD, STRANGER = (KINDS.index(kind) for kind in ("warm", "cold", "stranger"))


class UserCounts(BaseModel):
    """Users by how they are served."""

    model_config = ConfigDict(frozen=True)

    warm: int
    cold: int
    stranger: int


class NightlyResult(JobResult):
    """The published run."""

    model: str
    users: UserCounts
    lists: int
    k: int
    shortest_list: int
    candidates: int
    filtered: dict[str, int]
    """Outfits left out, by reason."""
    engine: str
    new_items: int
    """Items that had no vector yet and were embedded here."""
    new_outfits: int


@dataclass(frozen=True)
class ServedUsers:
    """Every user of the catalog, with a vector where there is one."""

    users: Int32Array
    """(n,) warm users, then cold starters: those with a vector."""
    vectors: Float32Array
    """(n, 128); the inner product with a unit outfit vector is the score (Eq. 9, 24)."""
    n_warm: int
    strangers: Int32Array


def nightly_recommend(context: JobContext) -> NightlyResult:
    """Score every candidate outfit for every user, check the lists and show them.

    Whoever and whatever came after `embed` is picked up here.
    """
    settings = context.settings
    with context.stage("read"):
        shop, row, stored = read_student_shop(context)
        context.freeze(model=row.model_id, seed=settings.seed, k=settings.nightly.k)
    vectors = refresh_embeddings(context, row, stored, shop)
    with context.stage("users") as stage:
        served = serve_users(shop, stored.user_ids, vectors, settings.cold_start)
        stage.items = shop.catalog.n_users
    allowed = candidates(shop.catalog)
    if allowed.count == 0:
        raise RefusedError(
            f"none of the {shop.catalog.n_outfits} outfits may be recommended "
            f"({_reasons(allowed)}); nothing was published"
        )
    with context.stage("score") as stage:
        lists = recommend_all(shop, served, vectors, allowed, settings)
        stage.items = len(served.users) * allowed.count
    with context.stage("publish") as stage:
        publish(
            context.database,
            context.run_id,
            shop.keys,
            lists,
            exclude_seen=settings.rules.exclude_seen,
            keep_runs=settings.nightly.keep_runs,
        )
        stage.items = len(lists.users)
    return NightlyResult(
        model=row.model_id,
        users=UserCounts(
            warm=served.n_warm,
            cold=len(served.users) - served.n_warm,
            stranger=len(served.strangers),
        ),
        lists=len(lists.users),
        k=settings.nightly.k,
        shortest_list=int((lists.outfits != PADDING).sum(axis=1).min()) if len(lists.users) else 0,
        candidates=allowed.count,
        filtered=allowed.filtered,
        engine=vectors.engine,
        new_items=vectors.new_items,
        new_outfits=vectors.new_outfits,
    )


def serve_users(
    shop: Shop, user_ids: tuple[str, ...], vectors: Embeddings, options: ColdStartSettings
) -> ServedUsers:
    """Who is warm, cold or a stranger, and the vectors of the first two."""
    catalog = shop.catalog
    warm, rows = warm_rows(shop, user_ids)
    usable = catalog.positives[catalog.outfit_usable[catalog.positives[:, 1]]]
    cold = np.setdiff1d(usable[:, 0], warm).astype(np.int32)
    cold_vectors = newcomer_vectors(cold, usable, vectors.outfits, vectors.users, options)
    users = np.concatenate([warm, cold])
    strangers = np.setdiff1d(np.arange(catalog.n_users, dtype=np.int32), users)
    return ServedUsers(
        users, np.concatenate([vectors.users[rows], cold_vectors]), len(warm), strangers
    )


def newcomer_vectors(
    cold: Int32Array,
    positives: Int32Array,
    outfit_vectors: Float32Array,
    user_vectors: Float32Array,
    options: ColdStartSettings,
) -> Float32Array:
    """`(n_cold, 128)` of users `cold` (ascending), from those of `positives (n, 2)` they own."""
    if cold.size == 0:
        return np.zeros((0, outfit_vectors.shape[1]), np.float32)
    own = positives[np.isin(positives[:, 0], cold)]
    vectors = cold_start_vectors(
        torch.from_numpy(user_vectors),
        torch.from_numpy(outfit_vectors[own[:, 1]]),
        torch.from_numpy(np.searchsorted(cold, own[:, 0])),
        cold.size,
        options.strategy,
        options.threshold,
        options.temperature,
    )
    return vectors.numpy()


def recommend_all(
    shop: Shop, served: ServedUsers, vectors: Embeddings, allowed: Candidates, settings: Settings
) -> RunLists:
    """The lists of all users: exact top-K for those with a vector, one varied list for strangers.

    A list is shorter than k only where fewer candidates are left.
    """
    options = settings.nightly
    catalog = shop.catalog
    exclude = seen_outfits(catalog, served.users) if settings.rules.exclude_seen else None
    outfits, scores = top_k(
        served.vectors, vectors.outfits, options.k, exclude=exclude, allowed=allowed.mask
    )
    popular, popularity = strangers_list(catalog, vectors, allowed, settings)
    n = len(served.strangers)
    kinds = np.full(len(served.users), COLD, np.int32)
    kinds[: served.n_warm] = WARM
    return RunLists(
        users=np.concatenate([served.users, served.strangers]),
        kinds=np.concatenate([kinds, np.full(n, STRANGER, np.int32)]),
        outfits=np.concatenate([outfits.astype(np.int32), np.tile(popular, (n, 1))]),
        scores=np.concatenate([scores, np.tile(popularity, (n, 1))]),
        ordered=n == 0,
    )


def seen_outfits(catalog: Catalog, users: Int32Array) -> tuple[Int64Array, Int32Array]:
    """CSR `(indptr, indices)` of the outfits that each of `users (n,)` likes already."""
    start = np.searchsorted(catalog.positives[:, 0], users, "left")
    stop = np.searchsorted(catalog.positives[:, 0], users, "right")
    length = stop - start
    indptr = np.concatenate([[0], np.cumsum(length)])
    within = np.arange(indptr[-1]) - np.repeat(indptr[:-1], length)
    return indptr, catalog.positives[np.repeat(start, length) + within, 1]


def strangers_list(
    catalog: Catalog, vectors: Embeddings, allowed: Candidates, settings: Settings
) -> tuple[Int32Array, Float32Array]:
    """The popular and varied list `(k,)` for users without any outfit, and its scores.

    The score is the outfit's popularity as a share of that of the most popular candidate.
    """
    options = settings.nightly
    parts = split_parts(catalog, settings.split)
    popularity = popularity_scores(catalog, part_positives(catalog, parts, Part.TRAIN))
    chosen = varied_popular(
        popularity,
        vectors.outfits,
        options.k,
        relevance=options.stranger_relevance,
        pool=options.stranger_pool,
        allowed=allowed.mask,
    )
    outfits = np.full(options.k, PADDING, np.int32)
    scores = np.zeros(options.k, np.float32)
    outfits[: len(chosen)] = chosen
    most = max(int(popularity[allowed.mask].max(initial=0)), 1)
    scores[: len(chosen)] = popularity[chosen] / most
    return outfits, scores


def _reasons(allowed: Candidates) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in allowed.filtered.items() if count)
