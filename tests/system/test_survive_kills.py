"""Nights that are killed at any moment end as undisturbed ones do, and readers notice nothing."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from recjob.store.embedded import EmbeddedServer
from tests.fixtures_shop import Shop, copy_shop
from tests.system.nights import SHARDS, Night, NightServer

pytestmark = pytest.mark.system

STAGES: Final = (
    "read",
    "item features",
    "outfit vectors",
    "save vectors",
    "plan",
    "score",
    "load",
    "publish",
    "clean up",
)
"""Of a night after new pictures came, in their order."""
EXACT: Final = {
    "read": ("starts",),
    "item features": ("before work file is synced", "after work file is synced"),
    "save vectors": (
        "before finished file is shared",
        "before vectors are registered",
        "after vectors are registered",
    ),
    "score": ("before work file is synced",),
    "load": ("before copy", "after copy"),
    "publish": (
        "after load is committed",
        "before attach",
        "after attach",
        "after attach is committed",
        "before flip",
        "after flip",
    ),
    "clean up": ("before end",),
}
"""Moments that are killed exactly, before the random one of each stage. A statement's "after" is
before its transaction is committed."""
NIGHTS: Final[dict[str, dict[str, str]]] = {
    "plain": {},
    "without recent outfits": {"RECJOB_RULES__EXCLUDE_RECENT_NIGHTS": "1"},
    "with mixes": {"RECJOB_RULES__EXCLUDE_RECENT_NIGHTS": "1", "RECJOB_MIXES__BUDGET": "20"},
}
SEED: Final = 3

Rows = frozenset[tuple[Any, ...]]
"""(user, rank, outfit) as readers see them."""


def seen_by_readers(connection: psycopg.Connection[Any]) -> tuple[Rows, set[int]]:
    """What the shop's statement finds, and the runs that it is of."""
    found = connection.execute(
        "SELECT user_id, rank, outfit_id, run FROM current_recommendation"
    ).fetchall()
    return frozenset(row[:3] for row in found), {row[3] for row in found}


@dataclass
class Reader:
    """What a reader found who never stopped reading."""

    polls: Counter[str] = field(default_factory=Counter)
    """How often it saw each of the whole runs."""
    wrong: list[str] = field(default_factory=list)
    """What was none of them."""
    runs: set[int] = field(default_factory=set)


@contextmanager
def reading(shop: Shop, whole: dict[str, Rows]) -> Iterator[Reader]:
    """Read all recommendations again and again; `whole`: what there may be to see."""
    reader, stop = Reader(), threading.Event()
    names = {rows: name for name, rows in whole.items()}

    def read() -> None:
        with psycopg.connect(shop.url.replace("+psycopg", ""), autocommit=True) as connection:
            while not stop.is_set():
                rows, runs = seen_by_readers(connection)
                reader.runs |= runs
                if len(runs) == 1 and rows in names:
                    reader.polls[names[rows]] += 1
                else:
                    reader.wrong.append(f"{len(rows)} rows of runs {sorted(runs)}")

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield reader
    finally:
        stop.set()
        thread.join()


def rows_of(shop: Shop) -> Rows:
    with psycopg.connect(shop.url.replace("+psycopg", ""), autocommit=True) as connection:
        return seen_by_readers(connection)[0]


@dataclass(frozen=True)
class Undisturbed:
    """A night that nobody killed."""

    digest: str
    before: Rows
    after: Rows
    durations: dict[str, float]
    """Seconds of each stage."""
    seconds: float
    work: set[str]
    """Names of the shards of items, outfits and users."""


@pytest.fixture(scope="module")
def undisturbed(
    changed_shop: Shop,
    postgres: EmbeddedServer,
    nights: NightServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Undisturbed]:
    """What a night of one of `NIGHTS` is when nobody kills it."""

    @cache
    def run(kind: str) -> Undisturbed:
        shop = copy_shop(changed_shop, postgres, tmp_path_factory.mktemp("undisturbed") / "shop")
        before = rows_of(shop)
        night = nights.night(shop, NIGHTS[kind])
        result, moments = night.result(), night.moments()
        assert (result["continues"], result["shards"]) == (None, SHARDS)
        when = {name: moment for moment, name in moments}
        after = rows_of(shop)
        assert before != after
        return Undisturbed(
            digest=nights.digest(shop),
            before=before,
            after=after,
            durations={name: when[f"{name} ends"] - when[f"{name} begins"] for name in STAGES},
            seconds=moments[-1][0] - moments[0][0],
            work=set(finished_shards(night)),
        )

    return run


def finished_shards(night: Night) -> list[str]:
    """Shards whose file was there before the night went on, or died."""
    kinds = ("after shard ", "after items ", "after outfits ")
    return [name.removeprefix("after ") for _, name in night.moments() if name.startswith(kinds)]


def kill_in_stage(
    nights: NightServer, shop: Shop, stage: str, after_seconds: float, variables: dict[str, str]
) -> Night:
    """Kill a night in a stage: at a moment in the middle, or at its end if that comes first."""
    night = nights.night(shop, variables, (f"{stage} ends", 1))
    night.wait_for(f"{stage} begins")
    time.sleep(after_seconds)
    night.kill()
    names = [name for _, name in night.moments()]
    assert f"{stage} ends" not in names[:-1]
    return night


def kill_at(nights: NightServer, shop: Shop, moment: str, variables: dict[str, str]) -> Night:
    """Kill a night at a moment, exactly."""
    night = nights.night(shop, variables, (moment, 1))
    night.wait_for(moment)
    night.kill()
    assert [name for _, name in night.moments()][-1] == moment
    return night


@pytest.mark.parametrize("kind", NIGHTS)
def test_a_night_that_is_killed_again_and_again(
    kind: str,
    changed_shop: Shop,
    postgres: EmbeddedServer,
    nights: NightServer,
    undisturbed: Callable[[str], Undisturbed],
    tmp_path: Path,
) -> None:
    """At ten random moments, one of them in every stage, and at the exact ones."""
    variables, chance, expected = NIGHTS[kind], random.Random(f"{SEED} {kind}"), undisturbed(kind)
    shop = copy_shop(changed_shop, postgres, tmp_path / "shop")
    with reading(shop, {"before": expected.before, "after": expected.after}) as reader:
        night = nights.night(shop, variables)
        time.sleep(chance.uniform(0, expected.seconds / 2))
        night.kill()
        killed = [night]
        for stage in STAGES:
            killed += [kill_at(nights, shop, at, variables) for at in EXACT.get(stage, ())]
            after = chance.uniform(0, expected.durations[stage])
            killed.append(kill_in_stage(nights, shop, stage, after, variables))
        last = nights.night(shop, variables)
        result = last.result()
    assert nights.digest(shop) == expected.digest
    # It was shown once, and a night that was killed after that only tidied up.
    [(current, previous)] = shop.rows("SELECT current_run, previous_runs FROM publication")
    assert result["run"] == current
    assert reader.runs == {current, *previous}
    assert len(reader.runs) == 2
    assert reader.wrong == []
    assert min(reader.polls["before"], reader.polls["after"]) > 100
    # What was finished was never done again.
    done = Counter(name for night in (*killed, last) for name in finished_shards(night))
    assert set(done.values()) == {1}
    assert done.keys() <= expected.work
    assert len(done) >= len(expected.work) - len(killed)
    assert left_over(shop) == []


def test_a_night_that_is_killed_whenever_it_is_shown(
    changed_shop: Shop,
    postgres: EmbeddedServer,
    nights: NightServer,
    undisturbed: Callable[[str], Undisturbed],
    tmp_path: Path,
) -> None:
    """Right after the flip, and then again and again before it has tidied up."""
    kind = "without recent outfits"
    variables, expected = NIGHTS[kind], undisturbed(kind)
    shop = copy_shop(changed_shop, postgres, tmp_path / "shop")
    kill_at(nights, shop, "after flip is committed", variables)
    shown = shop.rows("SELECT current_run, previous_runs FROM publication")
    for moment in ("plan ends", "clean up begins", "clean up ends"):
        kill_at(nights, shop, moment, variables)
    result = nights.night(shop, variables).result()
    assert [(result["run"],)] == [row[:1] for row in shown]
    assert result["run"] < result["continues"] < result["run_id"]
    assert shop.rows("SELECT current_run, previous_runs FROM publication") == shown
    assert nights.digest(shop) == expected.digest
    following = nights.night(shop, variables).result()
    assert (following["run"], following["continues"]) == (following["run_id"], None)
    assert nights.digest(shop) != expected.digest


def left_over(shop: Shop) -> list[str]:
    """What a night that has ended should not leave."""
    artifacts = shop.settings.home / "artifacts"
    files = [path for path in (artifacts / "work").rglob("*") if path.is_file()]
    files += [path for path in (artifacts / ".unfinished").iterdir() if path.name != "lock"]
    kept = {
        f"recommendation_run_{run}" for (run,) in shop.rows("SELECT run_id FROM recommendation_run")
    }
    tables = {
        name
        for (name,) in shop.rows(
            "SELECT relname FROM pg_class WHERE relkind = 'r' "
            "AND relname ~ '^recommendation_run_[0-9]'"
        )
    }
    return [*map(str, files), *(tables - kept)]
