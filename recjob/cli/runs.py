"""Commands `runs ...`: the runs whose recommendations are kept."""

from __future__ import annotations

from typing import Annotated

import typer

from recjob.cli.output import JsonOption, SettingsOption, print_rows, print_values
from recjob.settings import load_settings

runs_app = typer.Typer(no_args_is_help=True, help="Published runs.")


@runs_app.command("list")
def runs_list(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """List the runs whose recommendations are kept, the newest first.

    python cli.py runs list
    """
    from recjob.jobs.queries import runs

    print_rows("runs", runs(load_settings(settings)), as_json)


@runs_app.command("rollback")
def runs_rollback(
    to: Annotated[
        int | None, typer.Option("--to", help="Run to show; default: the one before.")
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an earlier run again.

    python cli.py runs rollback
    """
    from recjob.jobs.queries import show_earlier_run

    print_values(show_earlier_run(load_settings(settings), to), as_json)
