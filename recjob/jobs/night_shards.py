"""The shards of a night: each is scored once, its lists are a file, and what is there stays."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from recjob.catalog.catalog import PADDING, Int32Array, Int64Array
from recjob.errors import SettingsError
from recjob.jobs.night import Night, RecentOutfits, user_shard
from recjob.jobs.patience import patiently
from recjob.jobs.progress import progress_bar
from recjob.jobs.ray_cluster import run_shards
from recjob.jobs.ray_workers import (
    USERS,
    Latencies,
    ScoringWorker,
    lists_name,
    table_name,
    timed_lists,
    users_name,
)
from recjob.jobs.runner import JobContext
from recjob.monitoring.definitions import SCORING_SECONDS
from recjob.ranking.shard import ListShard, UserShard
from recjob.store.publication import recent_outfits
from recjob.store.work_files import WorkFolder

WORK: Final = "nightly"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShardWork:
    """What is finished of the night with this fingerprint."""

    folder: WorkFolder
    fingerprint: str

    @classmethod
    def of(cls, context: JobContext, fingerprint: str) -> ShardWork:
        """The work of a night; what other nights left is removed.

        So are users that a killed night gave to other machines.
        """
        folder = WorkFolder(context.artifacts.root, context.settings.artifacts_url, WORK)
        names = folder.names()
        for name in {name.partition("/")[0] for name in names} - {fingerprint}:
            folder.remove(name)
        for name in names:
            if name.startswith(f"{fingerprint}/{USERS}"):
                folder.remove(name)
        return cls(folder, fingerprint)

    def name(self, number: int) -> str:
        """File of the shard `number`."""
        return lists_name(self.fingerprint, number)

    def read(self, number: int) -> ListShard | None:
        """A finished shard; None where it is not there, or not sound."""
        data = self.folder.read(self.name(number))
        return None if data is None else ListShard.from_bytes(data)

    def write(self, number: int, lists: ListShard) -> None:
        """A shard is finished."""
        self.folder.write(self.name(number), lists.to_bytes())

    def finished(self, count: int) -> set[int]:
        """Which of `count` shards are there."""
        names = set(self.folder.names())
        return {number for number in range(count) if self.name(number) in names}

    def remove(self) -> None:
        """The night is over."""
        self.folder.remove()


def shard_ranges(n_users: int, shard_users: int) -> tuple[tuple[int, int], ...]:
    """First and last + 1 user of each shard."""
    return tuple(
        (start, min(n_users, start + shard_users)) for start in range(0, n_users, shard_users)
    )


def score_shards(
    context: JobContext,
    night: Night,
    ranges: Sequence[tuple[int, int]],
    work: ShardWork,
) -> int:
    """Score every shard that is not finished yet; returns how many were.

    SIGTERM waits for the shard at hand.
    """
    finished = work.finished(len(ranges))
    missing = [number for number in range(len(ranges)) if number not in finished]
    if len(missing) < len(ranges):
        log.warning("%d of %d shards are there already", len(ranges) - len(missing), len(ranges))
    with progress_bar("users", sum(ranges[n][1] - ranges[n][0] for n in missing)) as bar:

        def done(number: int) -> None:
            bar.by(ranges[number][1] - ranges[number][0])

        if context.settings.nightly.engine == "ray" and missing:
            _score_on_ray(context, night, ranges, missing, work, done)
        else:
            for number in missing:
                with context.shard():
                    work.write(number, one_shard(context, night, *ranges[number]))
                done(number)
    return len(ranges) - len(missing)


def _score_on_ray(
    context: JobContext,
    night: Night,
    ranges: Sequence[tuple[int, int]],
    missing: Sequence[int],
    work: ShardWork,
    done: Callable[[int], None],
) -> None:
    """The shards `missing` on the cluster; what they need goes there through the work folder."""
    settings, fingerprint = context.settings, work.fingerprint
    if night.indexed is not None:
        raise SettingsError(
            'nightly.search = "index" does not run on Ray: machines of the cluster scan their '
            'shards exactly; set nightly.search = "exact", or nightly.engine = "local"'
        )
    work.folder.write(table_name(fingerprint), night.table.to_bytes())

    def prepare(number: int) -> None:
        context.check_lease()
        users = users_of(context, night, *ranges[number])
        work.folder.write(users_name(fingerprint, number), users.to_bytes())

    arguments = (
        str(context.artifacts.root.resolve()),
        settings.artifacts_url,
        WORK,
        fingerprint,
        night.options.model_dump_json(),
    )

    def finished(number: int, latencies: Latencies) -> None:
        _count(context, latencies)
        context.check_lease()
        work.folder.remove(users_name(fingerprint, number))
        done(number)

    nodes = run_shards(settings.ray, missing, prepare, ScoringWorker, arguments, finished)
    context.freeze(ray_users=nodes)


def finished_shard(
    context: JobContext, night: Night, work: ShardWork, number: int, start: int, stop: int
) -> ListShard:
    """A shard that is finished, or whose file proves to be damaged: then it is done again."""
    lists = work.read(number)
    if lists is None:
        log.warning("shard %d is damaged; it is scored again", number)
        lists = one_shard(context, night, start, stop)
    return lists


def one_shard(context: JobContext, night: Night, start: int, stop: int) -> ListShard:
    """The lists of users `start` to `stop`."""
    users = users_of(context, night, start, stop)
    lists, seconds = timed_lists(night.scorer, users)
    _count(context, Latencies(night.scorer.engine(users), seconds))
    return lists


def _count(context: JobContext, latencies: Latencies) -> None:
    """Note what a shard took to be scored."""
    for seconds in latencies.seconds:
        context.metrics.observe(SCORING_SECONDS, seconds, engine=latencies.engine)


def users_of(context: JobContext, night: Night, start: int, stop: int) -> UserShard:
    """Users `start` to `stop` before scoring."""
    settings = context.settings
    return user_shard(
        night,
        start,
        stop,
        settings.cold_start,
        settings.rules.exclude_seen,
        recent_of(context, night),
    )


def recent_of(context: JobContext, night: Night) -> RecentOutfits | None:
    """What the recent runs showed; None where the rules do not ask."""
    if not night.recent_runs:
        return None

    def read(users: Int32Array) -> tuple[Int64Array, Int32Array]:
        keys = night.keys.users[users]

        def query() -> tuple[Int32Array, Int32Array]:
            with context.database.connect() as connection:
                return recent_outfits(connection, night.recent_runs, keys)

        user_keys, outfit_keys = patiently(context, query)
        by_key = np.argsort(keys)
        rows = by_key[np.searchsorted(keys, user_keys, sorter=by_key)]
        outfits = night.outfits_of(outfit_keys)
        known = outfits != PADDING  # an outfit of an earlier night's mixes may be gone
        return rows[known], outfits[known]

    return read
