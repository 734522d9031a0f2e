"""`schedule`: the built-in scheduler, and what it is about to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from recjob.cli.output import WIDEST_ROW, JsonOption, SettingsOption, print_json
from recjob.settings import load_settings

if TYPE_CHECKING:
    from recjob.jobs.schedule_list import ScheduleListing

MINUTES = "%Y-%m-%d %H:%M"


def schedule(
    list_: Annotated[
        bool, typer.Option("--list", help="Print the next and the last runs, and start nothing.")
    ] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the jobs of the schedule at their times, until SIGTERM or Ctrl-C.

    python cli.py schedule

    Each job is a process with a time limit, retries and its own log (HOME/logs). What was missed
    while no scheduler ran is made up for at once, once. A second scheduler on the same database
    stands by and takes over when the first is gone. It serves /metrics (metrics.sink).

    python cli.py schedule --list
    """
    loaded = load_settings(settings)
    if list_:
        from recjob.jobs.schedule_list import list_schedule

        listing = list_schedule(loaded)
        if as_json:
            print_json(listing.model_dump(mode="json"))
        else:
            _print(listing)
        return
    if as_json:
        raise typer.BadParameter("--json goes with --list")
    from recjob.jobs.schedule import run_schedule

    run_schedule(loaded, settings)


def _print(listing: ScheduleListing) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("entry", "cron", "next (UTC)", "after", "last (UTC)", "outcome"):
        table.add_column(heading, no_wrap=True)
    for line in listing.entries:
        outcome = line.last_outcome or ""
        table.add_row(
            line.entry,
            line.cron,
            f"{line.next:{MINUTES}}" if line.next else "never",
            ", ".join(line.after),
            f"{line.last_slot:{MINUTES}}" if line.last_slot else "",
            f"{outcome}: {line.last_reason}" if line.last_reason else outcome,
        )
    console = Console(width=WIDEST_ROW)
    console.print(table, soft_wrap=True)
    at_work = "a scheduler is at work" if listing.leader else "no scheduler is at work"
    console.print(f"cron expressions in {listing.timezone}; {at_work}")
