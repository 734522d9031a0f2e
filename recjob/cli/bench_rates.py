"""Command `bench rates`: this machine's rates for `plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recjob.cli.output import JsonOption, SettingsOption, print_json
from recjob.settings import load_settings


def bench_rates_command(
    out: Annotated[
        Path | None, typer.Option(help="Write the file here; default: standard output.")
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what this machine decodes, embeds and scores per second, as a file for plan.

    python cli.py bench rates --out rates.toml

    On drawn pictures and an untrained student, in about half a minute; on the GPU where there is
    one. How fast lists are written is measured by bench load.
    """
    from recjob.bench.rates import RateWork, bench_rates, write_rates

    measured = bench_rates(load_settings(settings), RateWork())
    if out is not None:
        write_rates(measured, out)
    if as_json:
        print_json(measured.model_dump(mode="json"))
    elif out is None:
        typer.echo(measured.toml(), nl=False)
