"""Benchmark of `embed`: the first night, a night with 1 % new pictures, and one without any.

The jobs are the real ones, on a database and a home that are made for it and removed afterwards.
Pictures have the size of the settings, since encoding them is most of the first night.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from recjob.bench.machine import Machine, this_machine
from recjob.bench.scratch import scratch_home
from recjob.bench.shop import ShopSize, draw_picture, register_student, write_shop
from recjob.jobs.embed import EmbedResult, embed
from recjob.jobs.import_tables import import_tables
from recjob.jobs.runner import run_job
from recjob.jobs.stages import StageRecord
from recjob.settings import Settings
from recjob.store.database import Database, open_database

GOAL: Final = 0.05
"""Most that a night with 1 % new items may cost, as a share of the first."""
CHANGED_SHARE: Final = 0.01
POSITIVES_PER_USER: Final = 10
"""Enough to fill the tables that are read; `embed` does not look at them."""


class EmbedNight(BaseModel):
    """A run of `embed`."""

    model_config = ConfigDict(frozen=True)

    night: str
    seconds: float
    """Of the whole job, reading included."""
    cpu_seconds: float
    """Of this process, all its threads: what other programs on the machine do not lengthen."""
    share_of_first: float
    items: int
    """Whose features were computed."""
    outfits: int
    rows_written: int
    """Of Postgres."""
    stages: tuple[StageRecord, ...]


class EmbedBenchmark(BaseModel):
    """What `embed` costs where everything, a little or nothing is new."""

    model_config = ConfigDict(frozen=True)

    machine: Machine
    engine: str
    items: int
    outfits: int
    users: int
    picture_side: int
    changed_items: int
    share: float
    """Seconds of the night with the changed items, relative to the first."""
    goal: float = GOAL
    nights: tuple[EmbedNight, ...]


def bench_embed(settings: Settings, items: int, outfits: int, users: int) -> EmbedBenchmark:
    """Run `embed` three times on a drawn shop; between the first two, 1 % of the pictures change.

    The change goes through an import, as a shop's does; only `embed` is measured.
    """
    size = ShopSize(
        users=users,
        outfits=outfits,
        items=items,
        positives_per_user=POSITIVES_PER_USER,
        cold_share=0.0,
        stranger_share=0.0,
    )
    with scratch_home(settings) as (folder, settings):
        shop = folder / "shop"
        write_shop(shop, size, settings.seed)
        with open_database(settings) as database:
            _import(database, settings, shop)
            student = partial(register_student, size=size, seed=settings.seed)
            run_job("models-import", database, settings, student)
            results = {"first": _embed(database, settings)}
            changed = _change_pictures(shop / "images", settings.seed)
            _import(database, settings, shop)
            results["1 % new"] = _embed(database, settings)
            results["nothing new"] = _embed(database, settings)
    first, _ = results["first"]
    return EmbedBenchmark(
        machine=this_machine(),
        engine=first.engine,
        items=first.items,
        outfits=first.outfits,
        users=first.users,
        picture_side=settings.images.size,
        changed_items=changed,
        share=results["1 % new"][0].seconds / first.seconds,
        nights=tuple(
            _night(name, result, cpu_seconds, first)
            for name, (result, cpu_seconds) in results.items()
        ),
    )


def print_embed(result: EmbedBenchmark) -> None:
    """The nights side by side, stage by stage."""
    stages = [stage.name for stage in result.nights[0].stages]
    table = Table(
        title=f"embed: {result.items} items of {result.picture_side} px, {result.outfits} outfits, "
        f"{result.users} users; {result.engine}"
    )
    table.add_column("seconds")
    for night in result.nights:
        table.add_column(night.night, justify="right")
    for name in stages:
        seconds = [
            sum(stage.seconds for stage in night.stages if stage.name == name)
            for night in result.nights
        ]
        table.add_row(name, *(f"{value:.2f}" for value in seconds))
    table.add_row("the job", *(f"{night.seconds:.2f}" for night in result.nights), style="bold")
    table.add_row("its CPU", *(f"{night.cpu_seconds:.2f}" for night in result.nights))
    table.add_row("of the first", *(f"{night.share_of_first:.1%}" for night in result.nights))
    for name in ("items", "outfits", "rows_written"):
        label = {"rows_written": "rows written"}.get(name, f"{name} computed")
        table.add_row(label, *(f"{getattr(night, name)}" for night in result.nights))
    console = Console()
    console.print(table)
    verdict = "reached" if result.share <= result.goal else "missed"
    console.print(
        f"A night with {result.changed_items} changed items costs {result.share:.1%} of the first "
        f"(goal: at most {result.goal:.0%}, {verdict})"
    )


def _import(database: Database, settings: Settings, shop: Path) -> None:
    run_job("import", database, settings, partial(import_tables, folder=shop))


def _embed(database: Database, settings: Settings) -> tuple[EmbedResult, float]:
    """The job's result and the CPU seconds that it took."""
    start = time.process_time()
    result = run_job("embed", database, settings, embed)
    return result, time.process_time() - start


def _change_pictures(images: Path, seed: int) -> int:
    """Draw 1 % of the pictures anew; how many."""
    rng = np.random.default_rng([seed, 1])
    paths = sorted(images.iterdir())
    chosen = rng.choice(len(paths), max(1, round(CHANGED_SHARE * len(paths))), replace=False)
    for place in chosen:
        draw_picture(paths[place], rng)
    return len(chosen)


def _night(name: str, result: EmbedResult, cpu_seconds: float, first: EmbedResult) -> EmbedNight:
    return EmbedNight(
        night=name,
        seconds=result.seconds,
        cpu_seconds=cpu_seconds,
        share_of_first=result.seconds / first.seconds,
        items=result.new_items,
        outfits=result.new_outfits,
        rows_written=result.rows_written,
        stages=result.stages,
    )
