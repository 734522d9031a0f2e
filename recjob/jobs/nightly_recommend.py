"""Job `nightly-recommend`: a list for every user, scored in shards, checked and published.

Everything that the lists follow from is frozen at the start and hashed; a finished shard is a
file under that hash. A night that was cut short and is started again finds what it finished, and
publishes what it would have published.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from recjob.errors import RefusedError
from recjob.jobs.embeddings import refresh_embeddings
from recjob.jobs.night import STRANGER, Night
from recjob.jobs.night_inputs import Plan, plan_night
from recjob.jobs.night_shards import ShardWork, finished_shard, score_shards
from recjob.jobs.night_statistics import RunStatistics, broken_limit, score_shift
from recjob.jobs.patience import patiently
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult
from recjob.jobs.workspace import read_student_shop
from recjob.store.ledger import job_run
from recjob.store.mixes import drop_unused_mixes
from recjob.store.publication import (
    drop_old_runs,
    keep_run,
    load_run,
    publication_row,
    published_statistics,
    show_run,
)
from recjob.store.run_lists import VISITOR, RunLists

log = logging.getLogger(__name__)


class UserCounts(BaseModel):
    """Users by how they are served."""

    model_config = ConfigDict(frozen=True)

    warm: int
    cold: int
    stranger: int


class NightlyResult(JobResult):
    """The published run."""

    run: int
    """The run that readers see: this one, or the one that had shown its lists when it was killed
    and was finished here."""
    continues: int | None
    """The run that was cut short, whose work this one took over."""
    model: str
    users: UserCounts
    lists: int
    k: int
    shortest_list: int
    short_lists: int
    """Lists with fewer than k places, for want of candidates that the rules allow."""
    coverage: float
    """Share of the candidates that are in a list."""
    candidates: int
    filtered: dict[str, int]
    """Outfits left out, by reason."""
    left_out: dict[str, int]
    """Candidates kept out of single users' lists, by reason."""
    mixes: int
    """New combinations among the candidates."""
    engine: str
    new_items: int
    """Items that had no vector yet and were embedded here."""
    new_outfits: int
    shards: int
    continued_shards: int
    """Shards that an earlier start had finished."""


def nightly_recommend(context: JobContext) -> NightlyResult:
    """Score every candidate outfit for every user, check the lists and show them.

    Whoever and whatever came after `embed` is picked up here. Raises RefusedError where there is
    no candidate, a check fails, or a limit of [limits] holds the run back (it is kept then).
    """
    settings = context.settings
    with context.stage("read"):
        shop, row, stored = read_student_shop(context)
    vectors = refresh_embeddings(context, row, stored, shop)
    with context.stage("plan") as stage:
        plan = plan_night(context, shop, row, stored, vectors)
        stage.items = plan.night.n_users
    work = ShardWork.of(context, plan.fingerprint)
    run, continued = _shown_already(context, plan), len(plan.ranges)
    if run is None:
        run = context.run_id
        with context.stage("score") as stage:
            continued = score_shards(context, plan.night, plan.ranges, work)
            stage.items = plan.night.n_users
        with context.stage("load") as stage:
            statistics = _load(context, plan, work) | {
                "filtered": plan.filtered,
                "engine": vectors.engine,
            }
            stage.items = plan.night.n_users
        with context.stage("publish"):
            _publish(context, statistics, work)
    with context.stage("clean up"):
        work.remove()
        patiently(context, partial(_clean_up, context))
    shown, facts = _published(context)
    return NightlyResult(
        run=shown,
        continues=plan.continues,
        model=facts["model"],
        users=UserCounts.model_validate(facts["users"]),
        lists=facts["lists"],
        k=settings.nightly.k,
        shortest_list=facts["shortest_list"],
        short_lists=facts["short_lists"],
        coverage=facts["coverage"],
        candidates=facts["candidates"],
        filtered=plan.filtered,
        left_out=facts["left_out"],
        mixes=plan.mixes,
        engine=vectors.engine,
        new_items=vectors.new_items,
        new_outfits=vectors.new_outfits,
        shards=len(plan.ranges),
        continued_shards=continued,
    )


def _shown_already(context: JobContext, plan: Plan) -> int | None:
    """The run that readers see, where this one continues it: it was killed after it was shown.

    Others may have continued it in between, and been killed too.
    """
    with context.database.connect() as connection:
        current, _ = publication_row(connection)
        run = plan.continues
        while run is not None and run != current:
            run = job_run(connection, run).parameters["continues"]
    return run


def _load(context: JobContext, plan: Plan, work: ShardWork) -> dict[str, Any]:
    """Load and check the lists of every shard; returns the run's statistics."""

    def load() -> dict[str, Any]:
        night, nightly = plan.night, context.settings.nightly
        statistics = RunStatistics(
            night.model_id, len(night.keys.outfits), int(night.table.allowed.sum()), nightly.k
        )
        left_out: dict[str, int] = {}
        load_run(
            context.database,
            context.run_id,
            night.keys,
            _lists(context, plan, work, statistics, left_out),
            exclude_seen=context.settings.rules.exclude_seen,
            shown=nightly.k,
        )
        return {**statistics.result(), "left_out": left_out}

    try:
        return patiently(context, load)
    except RefusedError:
        work.remove()  # the same lists would be refused again
        raise


def _lists(
    context: JobContext,
    plan: Plan,
    work: ShardWork,
    statistics: RunStatistics,
    left_out: dict[str, int],
) -> Iterator[RunLists]:
    """The visitors' list, then those of every shard; a shard whose file is damaged is redone."""
    night = plan.night
    yield visitors_list(night)
    re_ranked = context.settings.variety.strength > 0
    for number, (start, stop) in enumerate(plan.ranges):
        shard = finished_shard(context, night, work, number, start, stop)
        for reason, count in shard.counts.items():
            left_out[reason] = left_out.get(reason, 0) + count
        for scored in (True, False):
            rows = shard.scored if scored else ~shard.scored
            if rows.any():
                lists = RunLists(
                    users=shard.users[rows],
                    kinds=shard.kinds[rows],
                    outfits=shard.outfits[rows],
                    scores=shard.scores[rows],
                    ordered=scored and not re_ranked,
                )
                statistics.add(lists, cosines=scored)
                yield lists


def visitors_list(night: Night) -> RunLists:
    """The list for visitors without an id."""
    return RunLists(
        users=np.array([VISITOR], np.int32),
        kinds=np.array([STRANGER], np.int32),
        outfits=night.table.default_outfits[None],
        scores=night.table.default_scores[None],
        ordered=False,
    )


def _publish(context: JobContext, statistics: Mapping[str, Any], work: ShardWork) -> None:
    """Attach the run and show it, or keep it back where a limit is broken."""
    database, run_id = context.database, context.run_id

    def attach() -> str | None:
        with database.connect() as connection:
            last = published_statistics(connection)
        before = None if last is None else last[1]
        held = broken_limit(statistics, before, context.settings.limits)
        keep_run(
            database,
            run_id,
            shown=context.settings.nightly.k,
            statistics={**statistics, **score_shift(statistics, before)},
            held=held,
        )
        return held

    held = patiently(context, attach)
    if held is not None:
        work.remove()
        raise RefusedError(
            f"run {run_id} is written but not shown: {held}; look at it with `python cli.py runs "
            f"diff`, show it with `python cli.py runs publish {run_id}`"
        )
    patiently(context, partial(show_run, database, run_id))


def _clean_up(context: JobContext) -> None:
    settings = context.settings
    # What counts as recent has to be there the next night.
    keep_runs = max(settings.nightly.keep_runs, settings.rules.exclude_recent_nights)
    drop_old_runs(context.database, keep_runs)
    with context.database.begin() as connection:
        dropped = drop_unused_mixes(connection)
    if dropped:
        log.info("%d mixes of earlier nights are dropped", dropped)


def _published(context: JobContext) -> tuple[int, dict[str, Any]]:
    with context.database.connect() as connection:
        found = published_statistics(connection)
    assert found is not None, "a run has just been shown"
    return found
