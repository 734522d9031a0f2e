"""`status` and `doctor`: for the person on call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from recjob.cli.output import JsonOption, SettingsOption, print_json
from recjob.errors import RecjobError, StaleError
from recjob.settings import load_settings

if TYPE_CHECKING:
    from recjob.jobs.diagnosis import Diagnosis
    from recjob.jobs.status_report import ModelLine, Report, Schedule

COLOURS: Final = {
    "ok": "green",
    "warning": "yellow",
    "done": "green",
    "passed": "green",
    "skipped": "dim",
    "running": "cyan",
    "refused": "yellow",
    "forced": "yellow",
    "failed": "red",
    "killed": "red",
}
INDENT: Final = 2
UNKNOWN: Final = "–"
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400
_LONGEST_HOURS: Final = 48
"""Longer times are told in days."""
_UNITS: Final = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def status(settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Show how it stands: published run, jobs, schedule, models, sizes. Changes nothing.

    python cli.py status

    Ends with exit code 6 where no run is published, or the published one is older than
    status.stale_hours.
    """
    from recjob.jobs.status import status as look

    report = look(load_settings(settings))
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        Console(highlight=False).print(_page(report))
    if report.stale is not None:
        raise StaleError(report.stale)


def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the sha256 of models, engines and vectors.")
    ] = False,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check everything that a night needs, and say how to mend what is wrong. Changes nothing.

    python cli.py doctor

    Ends with exit code 1 where a check failed; warnings alone are no failure.
    """
    from recjob.jobs.doctor import diagnose

    diagnosis = diagnose(settings, quick=quick)
    if as_json:
        print_json(diagnosis.model_dump(mode="json"))
    else:
        Console(highlight=False).print(_checks(diagnosis))
    if diagnosis.failed:
        count = len(diagnosis.failed)
        checks = "1 check" if count == 1 else f"{count} checks"
        raise RecjobError(f"{checks} failed: {', '.join(diagnosis.failed)}")


def _checks(diagnosis: Diagnosis) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in diagnosis.checks:
        found = Text(check.found)
        if check.fix:
            found.append(f"\n→ {check.fix}", style="bold")
        table.add_row(Text(check.outcome, style=COLOURS[check.outcome]), check.name, found)
    return table


def _page(report: Report) -> Group:
    parts: list[RenderableType] = []
    for heading, body in (
        ("Published", _published(report)),
        ("Running", _running(report)),
        ("Last runs", _jobs(report)),
        ("Schedule", _schedule(report.schedule)),
        ("Models", _models(report)),
        ("Sizes", _sizes(report)),
    ):
        lines = [line for line in body if line is not None]
        if lines:
            parts += [
                Text(heading, style="bold"),
                Padding(Group(*lines), (0, 0, 1, INDENT), expand=False),
            ]
    return Group(*parts)


def _published(report: Report) -> list[RenderableType | None]:
    run = report.published
    if run is None:
        return [_line(report.note or "no run is published", "red")]
    style = "red" if report.stale else "green"
    users = ", ".join(f"{count:,} {kind}" for kind, count in run.users.items())
    return [
        Text.assemble(
            f"run {run.run}, ",
            (f"{_hours(run.age_hours)} old", style),
            f" (written {_moment(run.written)} UTC)",
        ),
        None if run.lists is None else _line(f"{run.lists:,} lists: {users}"),
        _line(f"scored with {run.model}") if run.model else None,
        None
        if report.held is None
        else _line(f"run {report.held.run} is held back: {report.held.reason}", "yellow"),
    ]


def _running(report: Report) -> list[RenderableType | None]:
    if not report.running:
        return []
    table = _table("job", ">run", "stage", ">for", ">heartbeat", "pid, host")
    for job in report.running:
        beat = f"{_seconds(job.heartbeat_seconds)} ago" if job.alive else "dead"
        table.add_row(
            job.job,
            str(job.run),
            job.stage or UNKNOWN,
            _seconds(job.seconds),
            Text(beat, style="" if job.alive else "red"),
            f"{job.pid}, {job.host}",
        )
    return [table]


def _jobs(report: Report) -> list[RenderableType | None]:
    if not report.jobs:
        return []
    table = _table("job", ">run", "outcome", "ended (UTC)", ">ago", ">took")
    for job in report.jobs:
        table.add_row(
            job.job,
            str(job.run),
            _outcome(job.outcome),
            _moment(job.ended),
            _hours(job.age_hours),
            _seconds(job.seconds),
        )
    reasons = [
        Text.assemble((f"{job.job} {job.outcome}: ", COLOURS.get(job.outcome, "")), job.error)
        for job in report.jobs
        if job.error
    ]
    return [table, *reasons]


def _schedule(schedule: Schedule) -> list[RenderableType | None]:
    if schedule.error is not None:
        return [_line(schedule.error, "red")]
    leader = "no scheduler is alive" if schedule.leader is None else f"led by {schedule.leader}"
    planned = [entry for entry in schedule.entries if entry.next is not None]
    table = _table("entry", "next (UTC)", "last (UTC)", "outcome")
    for entry in sorted(planned, key=lambda entry: entry.next or datetime.max.replace(tzinfo=UTC)):
        table.add_row(
            entry.entry,
            _moment(entry.next),
            _moment(entry.last),
            "" if entry.outcome is None else _outcome(entry.outcome),
        )
    never = [entry.entry for entry in schedule.entries if entry.next is None]
    return [
        _line(leader, "" if schedule.leader else "yellow"),
        table if planned else None,
        _line(f"never: {', '.join(never)}") if never else None,
    ]


def _models(report: Report) -> list[RenderableType | None]:
    lines: list[RenderableType | None] = []
    if report.models:
        table = _table("role", "status", "model", ">age", ">AUC")
        for model in report.models:
            table.add_row(
                model.role, model.status, model.model, _hours(model.age_hours), _auc(model)
            )
        lines.append(table)
    if report.gate is not None:
        gate = report.gate
        reason = f": {gate.reason}" if gate.reason else ""
        lines.append(
            Text.assemble(
                "gate: ",
                _outcome(gate.decision),
                f" {gate.model} on {_moment(gate.decided)} UTC{reason}",
            )
        )
    return lines


def _sizes(report: Report) -> list[RenderableType | None]:
    disk, catalog = report.disk, report.catalog
    lines = []
    if catalog is not None:
        about = "about " if catalog.estimated else ""
        items = f"{catalog.items_available:,} available"
        for count, state in (
            (catalog.items_unavailable, "unavailable"),
            (catalog.items_quarantined, "in quarantine"),
        ):
            items += f", {count:,} {state}" if count else ""
        lines.append(("items", items))
        lines.append(
            (
                "catalog",
                f"{about}{catalog.outfits:,} outfits, {catalog.users:,} users, "
                f"{catalog.interactions:,} interactions",
            )
        )
    parts = [
        f"{name} {_bytes(size)}"
        for name, size in (
            ("database", disk.database),
            ("artifacts", disk.artifacts),
            ("pictures", disk.pictures),
        )
        if size is not None
    ]
    if parts:
        lines.append(("disk", ", ".join(parts)))
    if disk.free is not None:
        lines.append(("free", f"{_bytes(disk.free)} on the disk of {disk.home}"))
    if report.database is not None:
        where = "the embedded server" if report.embedded else report.database
        lines.append(("database", f"{where}, schema {report.schema_version}"))
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in lines:
        table.add_row(name, value)
    return [table] if lines else []


def _table(*headings: str) -> Table:
    """Columns without lines; one whose heading begins with `>` is flush right."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        right = heading.startswith(">")
        table.add_column(
            heading.removeprefix(">"), justify="right" if right else "left", overflow="fold"
        )
    return table


def _outcome(outcome: str) -> Text:
    return Text(outcome, style=COLOURS.get(outcome, ""))


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style)


def _auc(model: ModelLine) -> str:
    return f"{model.validation['auc']:.4f}" if "auc" in model.validation else UNKNOWN


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _hours(hours: float) -> str:
    return _seconds(hours * _HOUR)


def _seconds(seconds: float) -> str:
    """A span in the one or two units that matter."""
    if seconds < _MINUTE:
        return f"{max(seconds, 0):.0f} s"
    if seconds < _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < _LONGEST_HOURS * _HOUR:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _DAY:.0f} days"


def _bytes(size: int) -> str:
    for unit, factor in _UNITS:
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
