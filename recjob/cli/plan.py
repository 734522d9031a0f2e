"""Command `plan`: what a night takes at a given size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from recjob.cli.output import JsonOption, SettingsOption, print_json
from recjob.settings import load_settings

if TYPE_CHECKING:
    from recjob.jobs.plan import Plan

POSITIVES_PER_USER: Final = 20
"""Interactions that a plan reckons with where nobody says how many there are."""
_UNITS: Final = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_MINUTE: Final = 60
_HOUR: Final = 3600


def plan(
    users: Annotated[int, typer.Option(min=1, help="Users with a vector or with positives.")],
    outfits: Annotated[int, typer.Option(min=1, help="Candidate outfits.")],
    items: Annotated[int, typer.Option(min=1, help="Items with a picture.")],
    k: Annotated[int, typer.Option(min=0, help="Length of a list; 0: as in the settings.")] = 0,
    interactions: Annotated[
        int, typer.Option(min=0, help=f"Positives in all; 0: {POSITIVES_PER_USER} per user.")
    ] = 0,
    items_per_outfit: Annotated[float, typer.Option(min=1, help="Items of an outfit.")] = 4.0,
    new_items: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the items that are new in a usual night.")
    ] = 0.01,
    nodes: Annotated[
        int, typer.Option(min=0, help="Machines; 0: as many as a usual night needs.")
    ] = 0,
    cores: Annotated[int, typer.Option(min=1, help="Physical cores of a machine.")] = 16,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs of a machine.")] = 0,
    hours: Annotated[float, typer.Option(min=0.01, help="A night must end after so many.")] = 4.0,
    cpu_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of a core for an hour.")
    ] = None,
    gpu_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of a GPU for an hour.")
    ] = None,
    rates: Annotated[
        Path | None, typer.Option(help="TOML file with rates of your own (docs/scale.md).")
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate bytes, seconds, machines and money of a night at a size of yours.

    python cli.py plan --users 1000000 --outfits 1000000 --items 1000000 --gpus 1

    Arithmetic on a table of rates, without a database. Every rate says whether it was measured,
    extrapolated or assumed; rates of your own machines go into a file (--rates).
    """
    from recjob.jobs.plan import Machines, plan_night
    from recjob.jobs.plan_sizes import Shop
    from recjob.jobs.rates import Rates, read_rates

    knobs = load_settings(settings)
    if k:
        knobs = knobs.model_copy(update={"nightly": knobs.nightly.model_copy(update={"k": k})})
    answer = plan_night(
        Shop(
            users=users,
            outfits=outfits,
            items=items,
            interactions=interactions or users * POSITIVES_PER_USER,
            items_per_outfit=items_per_outfit,
        ),
        Machines(
            nodes=nodes, cores=cores, gpus=gpus, hours=hours, cpu_hour=cpu_hour, gpu_hour=gpu_hour
        ),
        knobs,
        Rates() if rates is None else read_rates(rates),
        new_items,
    )
    if as_json:
        print_json(answer.model_dump(mode="json"))
    else:
        typer.echo("\n".join(plan_lines(answer)))


def plan_lines(answer: Plan) -> list[str]:
    """The estimate for people; the same text in every terminal, since docs/scale.md quotes it."""
    shop, machines = answer.shop, answer.machines
    gpus = f" and {machines.gpus} GPU{'s' * (machines.gpus > 1)}" if machines.gpus else ""
    blocks = [
        [
            f"{shop.users:,} users x {shop.outfits:,} outfits of {shop.items:,} items, "
            f"{shop.interactions:,} positives",
            f"machines: {answer.nodes:,}, each with {machines.cores} cores{gpus}",
        ],
        columns(
            ("bytes", "", "where"),
            [(row.what, _bytes(row.bytes), row.where) for row in answer.sizes],
            ">1",
        ),
        columns(
            ("stage", "first night", "usual night", "on", "basis"),
            [
                (
                    row.stage,
                    _time(row.first_seconds),
                    _time(row.usual_seconds),
                    row.where,
                    row.basis,
                )
                for row in answer.stages
            ],
            ">12",
        ),
        columns(
            ("night", "time", f"machines for {machines.hours:g} h", "longest stage", "money"),
            [
                (
                    row.night,
                    _time(row.seconds),
                    "no number" if row.nodes_needed is None else f"{row.nodes_needed:,}",
                    row.bottleneck,
                    "no prices" if row.money is None else f"{row.money:,.2f}",
                )
                for row in answer.nights
            ],
            ">124",
        ),
        ["settings and limits", *(f"  {line}" for line in answer.advice)],
        columns(
            ("rate", "per second", "basis", "source"),
            [
                (name.replace("_", " "), _number(rate.value), rate.basis, rate.source)
                for name, rate in answer.rates.items()
            ],
            ">1",
        ),
    ]
    return [line for block in blocks for line in (*block, "")][:-1]


def columns(heading: Sequence[str], rows: Sequence[Sequence[str]], right: str) -> list[str]:
    """Rows as aligned text; `right` (">13"): the columns with numbers."""
    table = [heading, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(heading))]
    return [
        "  ".join(
            text.rjust(width) if str(column) in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _bytes(size: int) -> str:
    for unit, factor in _UNITS:
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} B"


def _time(seconds: float) -> str:
    if seconds >= _HOUR:
        return f"{seconds / _HOUR:,.1f} h"
    if seconds >= _MINUTE:
        return f"{seconds / _MINUTE:.1f} min"
    return f"{seconds:.1f} s"
