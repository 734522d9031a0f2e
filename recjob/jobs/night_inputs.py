"""What a night works on, read from the database and frozen in the ledger."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection

from recjob.catalog.catalog import PADDING, BoolArray, Catalog, Float32Array, Int32Array
from recjob.catalog.split import Part, part_positives, split_parts
from recjob.errors import RefusedError
from recjob.inference.embedding import embed_outfits
from recjob.inference.model_files import StoredRecommender
from recjob.jobs.embed import index_path, warm_rows
from recjob.jobs.embeddings import Embeddings
from recjob.jobs.night import Night, who_is_served
from recjob.jobs.night_shards import shard_ranges
from recjob.jobs.runner import JobContext
from recjob.jobs.workspace import Shop
from recjob.ranking.candidates import Candidates, candidates, check_rules, wanted_attributes
from recjob.ranking.index import OutfitIndex, read_index
from recjob.ranking.mixes import draw_mixes, keep_best_mixes, mix_ids, user_neighbourhoods
from recjob.ranking.popularity import popularity_scores
from recjob.ranking.rules import Caps, category_patterns
from recjob.ranking.scorer import IndexedOutfits
from recjob.ranking.shard import ListOptions, ScoringTable
from recjob.ranking.variety import varied_popular
from recjob.settings import Settings
from recjob.store.catalog_store import CatalogKeys, item_attributes
from recjob.store.ledger import RunRow, newest_planned_run
from recjob.store.mixes import add_mixes
from recjob.store.models import ModelRow
from recjob.store.publication import runs_shown_before, was_held

JOB = "nightly-recommend"
_ROWS_PER_COMPARISON: Final = 2**16
"""Vectors of the index that are looked at together: 32 MiB."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A night, cut into shards."""

    night: Night
    fingerprint: str
    filtered: dict[str, int]
    """Outfits that are no candidates, by reason."""
    mixes: int
    ranges: tuple[tuple[int, int], ...]
    """First and last + 1 user of each shard."""
    continues: int | None
    """The run that was cut short and had the same plan."""


def plan_night(
    context: JobContext,
    shop: Shop,
    row: ModelRow,
    stored: StoredRecommender,
    vectors: Embeddings,
) -> Plan:
    """Choose candidates, serve users, and freeze it all in the ledger.

    Raises RefusedError where nothing may be recommended, UserError for rules that do not fit the
    catalog.
    """
    settings = context.settings
    check_rules(shop.catalog, settings.rules)
    wanted = wanted_attributes(settings.rules)
    with context.database.connect() as connection:
        attributes = item_attributes(connection, wanted)
        cut_short = _cut_short(connection, context)
        recent = tuple(runs_shown_before(connection, settings.rules.exclude_recent_nights))
    mixed = _with_mixes(context, shop, stored, vectors, attributes)
    allowed = candidates(mixed.catalog, None, settings.rules, attributes)
    if allowed.count == 0:
        raise RefusedError(
            f"none of the {mixed.catalog.n_outfits} outfits may be recommended "
            f"({_reasons(allowed)}); nothing was published"
        )
    indexed = None
    if settings.nightly.search == "index":
        index = read_index(index_path(context, row.model_id))
        indexed = index_of(index, mixed.catalog.outfit_ids, mixed.vectors)
    night = _night(row, stored, shop, mixed, vectors.users, allowed, settings, indexed)
    fingerprint = replace(night, recent_runs=recent).fingerprint(settings)
    continues = None
    if cut_short is not None:
        # Its own run may have been shown since: what it left out as recent is what still counts.
        before = tuple(cut_short.parameters["recent_runs"])
        if (
            replace(night, recent_runs=before).fingerprint(settings)
            == (cut_short.parameters["fingerprint"])
        ):
            continues, recent = cut_short.run_id, before
            fingerprint = cut_short.parameters["fingerprint"]
    night = replace(night, recent_runs=recent)
    ranges = shard_ranges(night.n_users, settings.nightly.shard_users)
    context.freeze(
        model=row.model_id,
        engine=vectors.engine,
        seed=settings.seed,
        k=settings.nightly.k,
        users=night.n_users,
        candidates=allowed.count,
        mixes=mixed.count,
        shards=len(ranges),
        shard_users=settings.nightly.shard_users,
        recent_runs=list(recent),
        fingerprint=fingerprint,
        continues=continues,
    )
    return Plan(night, fingerprint, allowed.filtered, mixed.count, ranges, continues)


@dataclass(frozen=True)
class _Mixed:
    """The catalog with tonight's mixes behind its outfits."""

    catalog: Catalog
    keys: CatalogKeys
    vectors: Float32Array
    count: int


def _cut_short(connection: Connection, context: JobContext) -> RunRow | None:
    """The newest night, where it did not end and is not too old to be continued."""
    run = newest_planned_run(connection, JOB, context.run_id)
    if run is None or run.outcome == "done" or was_held(connection, run.run_id):
        return None
    age = datetime.now(UTC) - run.started
    longest = timedelta(hours=context.settings.nightly.continue_hours)
    return run if age <= longest else None


def _with_mixes(
    context: JobContext,
    shop: Shop,
    stored: StoredRecommender,
    vectors: Embeddings,
    attributes: BoolArray,
) -> _Mixed:
    """Draw combinations, keep what the users' neighbourhoods like best, and store those."""
    catalog, settings = shop.catalog, context.settings
    options = settings.mixes
    if options.budget == 0:
        return _Mixed(catalog, shop.keys, vectors.outfits, 0)
    drawn = draw_mixes(
        catalog, options.budget * options.draws_per_kept, settings.seed, settings.rules, attributes
    )
    drawn_vectors = embed_outfits(
        vectors.encoder, vectors.features, drawn, settings.embed.batch_size
    )
    tastes = user_neighbourhoods(vectors.users, options.neighbourhoods, settings.seed)
    kept = np.sort(keep_best_mixes(drawn_vectors, tastes, options.budget))
    items = drawn[kept]
    ids = mix_ids(items, catalog.item_ids)
    padded = np.append(shop.keys.items, np.int32(PADDING))  # what padding (-1) points to
    with context.database.begin() as connection:
        keys = add_mixes(connection, ids, padded[items])
    width = max(catalog.max_items, items.shape[1])
    return _Mixed(
        replace(
            catalog,
            outfit_ids=(*catalog.outfit_ids, *ids),
            outfit_items=np.concatenate([_widened(catalog.outfit_items, width), items]),
            outfit_available=np.concatenate([catalog.outfit_available, np.ones(len(ids), bool)]),
        ),
        replace(shop.keys, outfits=np.concatenate([shop.keys.outfits, keys])),
        np.concatenate([vectors.outfits, drawn_vectors[kept]]),
        len(ids),
    )


def _night(
    row: ModelRow,
    stored: StoredRecommender,
    shop: Shop,
    mixed: _Mixed,
    user_vectors: Float32Array,
    allowed: Candidates,
    settings: Settings,
    indexed: IndexedOutfits | None,
) -> Night:
    catalog = mixed.catalog
    users, rows = warm_rows(shop, stored.user_ids)
    model_rows = np.full(catalog.n_users, -1, np.int32)
    model_rows[users] = rows
    patterns = category_patterns(catalog)
    default, default_scores = default_list(mixed, patterns, allowed, settings)
    return Night(
        model_id=row.model_id,
        model_sha256=row.sha256,
        seed=settings.seed,
        keys=mixed.keys,
        table=ScoringTable(
            outfit_vectors=mixed.vectors,
            outfit_items=catalog.outfit_items,
            outfit_patterns=patterns,
            allowed=allowed.mask,
            default_outfits=default,
            default_scores=default_scores,
        ),
        options=ListOptions(
            length=list_length(settings), rules=settings.rules, variety=settings.variety
        ),
        kinds=who_is_served(catalog, model_rows),
        model_rows=model_rows,
        user_vectors=user_vectors,
        positives=catalog.positives,
        usable=catalog.outfit_usable[catalog.positives[:, 1]],
        recent_runs=(),
        indexed=indexed,
    )


def index_of(
    index: OutfitIndex, outfit_ids: Sequence[str], vectors: Float32Array
) -> IndexedOutfits:
    """The index beside the table of outfits `vectors (N, d)`; what changed since is scanned."""
    found = pc.index_in(
        pa.array(index.outfit_ids, pa.large_string()),
        value_set=pa.array(outfit_ids, pa.large_string()),
    )
    outfits = np.asarray(found.fill_null(PADDING), dtype=np.int64)
    for start in range(0, len(outfits), _ROWS_PER_COMPARISON):
        part = outfits[start : start + _ROWS_PER_COMPARISON]
        rows = np.arange(start, start + len(part))
        same = (index.vectors(rows) == vectors[part]).all(axis=1)
        part[~same] = PADDING
    known = int((outfits != PADDING).sum())
    if known < len(vectors):
        log.warning(
            "%d of %d outfits are new since the index was built, and are scanned; `embed` brings "
            "it up to date",
            len(vectors) - known,
            len(vectors),
        )
    return IndexedOutfits(index, outfits)


def list_length(settings: Settings) -> int:
    """Places that are stored: those shown and the spare ones."""
    return settings.nightly.k + settings.nightly.spare


def default_list(
    mixed: _Mixed, patterns: Int32Array, allowed: Candidates, settings: Settings
) -> tuple[Int32Array, Float32Array]:
    """The popular and varied list `(K,)` for strangers and visitors, and its scores.

    The score is the outfit's popularity as a share of that of the most popular candidate.
    """
    catalog, options, length = mixed.catalog, settings.nightly, list_length(settings)
    parts = split_parts(catalog, settings.split)
    popularity = popularity_scores(catalog, part_positives(catalog, parts, Part.TRAIN))
    chosen = varied_popular(
        popularity,
        mixed.vectors,
        length,
        relevance=options.stranger_relevance,
        pool=options.stranger_pool,
        allowed=allowed.mask,
        caps=Caps.of(settings.rules, catalog.outfit_items, patterns),
    )
    outfits = np.full(length, PADDING, np.int32)
    scores = np.zeros(length, np.float32)
    outfits[: len(chosen)] = chosen
    most = max(int(popularity[allowed.mask].max(initial=0)), 1)
    scores[: len(chosen)] = popularity[chosen] / most
    return outfits, scores


def _widened(items: Int32Array, width: int) -> Int32Array:
    return np.pad(items, ((0, 0), (0, width - items.shape[1])), constant_values=PADDING)


def _reasons(allowed: Candidates) -> str:
    return ", ".join(f"{reason}: {count}" for reason, count in allowed.filtered.items() if count)
