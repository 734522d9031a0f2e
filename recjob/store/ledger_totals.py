"""Old runs leave the ledger; what they counted stays in `ledger_total`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, text


def fold_runs(connection: Connection, before: datetime) -> int:
    """Move runs that ended before `before` from the ledger into the sums; how many they were.

    What Prometheus counts is the same afterwards. What stays: runs whose lists are kept, those that
    another run continued, and the newest run of each job and outcome, whose times and figures are
    shown. `before` has a time zone.
    """
    return int(connection.scalar(text("SELECT fold_job_runs(:before)"), {"before": before}) or 0)
