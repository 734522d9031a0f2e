"""Kept runs: what they are, and their digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from recjob.errors import NotFoundError
from recjob.store.bulk import copy_blocks_out
from recjob.store.publication import publication_row
from recjob.store.run_lists import KINDS, VISITOR_KEY, partition_name


@dataclass(frozen=True)
class KeptRun:
    """A run whose recommendations are kept."""

    run_id: int
    current: bool
    """Whether readers see it."""
    held: str | None
    """Why it was not shown; None: nothing held it back."""
    started: datetime
    written: datetime
    shown: int
    """Places of each list that readers see."""
    users: dict[str, int]
    """Number of lists of each kind; that of visitors is not among them."""
    visitors: bool
    """Whether there is a list for visitors without an id."""
    places: int
    """Outfits in all lists of users, the spare ones too."""
    statistics: dict[str, Any]
    """What the job counted."""
    parameters: dict[str, Any]
    """What the run worked on, from the ledger."""


def list_runs(connection: Connection) -> list[KeptRun]:
    """The runs whose recommendations are kept, the newest first."""
    runs = connection.scalars(text("SELECT run_id FROM recommendation_run ORDER BY run_id DESC"))
    return [kept_run(connection, run_id) for run_id in runs.all()]


def kept_run(connection: Connection, run_id: int) -> KeptRun:
    """A run whose recommendations are kept; NotFoundError where they are not."""
    current, _ = publication_row(connection)
    row = connection.execute(
        text(
            "SELECT held, started, written, shown, statistics, parameters "
            "FROM recommendation_run JOIN job_run USING (run_id) WHERE run_id = :run_id"
        ),
        {"run_id": run_id},
    ).one_or_none()
    if row is None:
        raise NotFoundError(f"run {run_id} is not kept; `python cli.py runs list` shows which are")
    counts = connection.execute(
        text(
            "SELECT CASE user_key WHEN :visitor THEN NULL ELSE kind END AS kind, "
            "count(*) AS lists, sum(cardinality(outfit_keys)) AS places "
            "FROM recommendation WHERE run_id = :run_id GROUP BY 1"
        ),
        {"run_id": run_id, "visitor": VISITOR_KEY},
    ).all()
    lists = {count.kind: int(count.lists) for count in counts}
    return KeptRun(
        run_id=run_id,
        current=run_id == current,
        users={kind: lists.get(kind, 0) for kind in KINDS},
        visitors=None in lists,
        places=sum(int(count.places) for count in counts if count.kind is not None),
        **row._mapping,
    )


def run_digest(connection: Connection, run_id: int) -> str:
    """sha256, as 64 hexadecimal digits, over user ids and their ordered outfit ids.

    Of the bytes that Postgres sends for

        COPY (SELECT user_id, array of outfit ids ...) TO STDOUT WITH (NULL '')

    in UTF-8: a line per list, ordered by user id bytewise; a line is the user id, a tab, the
    outfit ids of all stored places, best first, as Postgres writes a text[] (in braces, separated
    by commas, in double quotes where an id needs it), and a newline. The list for visitors comes
    first, with nothing before its tab. Scores and the database's keys do not count.

    Memory: a block of the stream, whatever the size of the run. Raises NotFoundError.
    """
    kept = connection.scalar(
        text("SELECT 1 FROM recommendation_run WHERE run_id = :run_id"), {"run_id": run_id}
    )
    if kept is None:
        raise NotFoundError(f"run {run_id} is not kept; `python cli.py runs list` shows which are")
    digest = hashlib.sha256()
    query = f"""
        SELECT user_id, ARRAY (
            SELECT outfit_id FROM unnest(outfit_keys) WITH ORDINALITY AS listed (outfit_key, place)
            JOIN outfit USING (outfit_key) ORDER BY place
        )
        FROM {partition_name(run_id)} LEFT JOIN app_user USING (user_key)
        ORDER BY user_id NULLS FIRST
    """  # noqa: S608
    for block in copy_blocks_out(
        connection, f"COPY ({query}) TO STDOUT WITH (NULL '', ENCODING 'UTF8')"
    ):
        digest.update(block)
    return digest.hexdigest()
