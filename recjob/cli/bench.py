"""Commands `bench ...`: speed claims measured beside their peers, in one run."""

from __future__ import annotations

import typer

bench_app = typer.Typer(
    no_args_is_help=True, help="Measure speed beside the peers, in one run on this machine."
)
