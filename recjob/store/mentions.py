"""Where texts that the program wrote about its own work name a user, and taking that out.

An error may say which user's row was wrong. It is kept in the ledger, in logs, and on other pages.
"""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from sqlalchemy import Connection, text

from recjob.catalog.table_files import show
from recjob.errors import DataError
from recjob.store.forgotten import forgotten_among

REDACTED: Final = "(forgotten)"
"""Stands where the user was named."""
_QUOTED: Final = re.compile(r"""(?<!\w)(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")(?!\w)""")
"""A text as Python writes it."""


@dataclass(frozen=True)
class _Texts:
    """The columns of a table that hold what the program wrote."""

    table: str
    key: tuple[str, ...]
    texts: tuple[str, ...]
    documents: tuple[str, ...]
    """jsonb."""


WRITTEN: Final = (
    _Texts("job_run", ("run_id",), ("error",), ("parameters", "counts", "stages", "metrics")),
    _Texts("schedule_run", ("entry", "slot"), ("reason",), ()),
    _Texts("gate_decision", ("decision_id",), ("reason",), ("checks",)),
    _Texts("recommendation_run", ("run_id",), ("held",), ("statistics",)),
)


@dataclass(frozen=True)
class Mentions:
    """Finds a user's id in texts, as a word of its own: `user-1` is not in `user-12`."""

    user_id: str

    @cached_property
    def spellings(self) -> tuple[str, ...]:
        """The id as messages, JSON and HTML write it; the longest first."""
        shown = show(self.user_id)
        ways = {
            self.user_id,
            shown[1:-1] if shown.endswith(shown[0]) else shown[1:],  # a long one is cut off
            json.dumps(self.user_id)[1:-1],
            json.dumps(self.user_id, ensure_ascii=False)[1:-1],
            html.escape(self.user_id),
        }
        return tuple(sorted(ways, key=lambda way: (-len(way), way)))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        words = "|".join(map(re.escape, self.spellings))
        return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])")

    def within(self, written: str) -> bool:
        """Whether the text names the user."""
        return self._pattern.search(written) is not None

    def without(self, value: Any) -> Any:
        """A text, or anything that JSON can hold, that does not name the user; keys stay."""
        if isinstance(value, str):
            return self._pattern.sub(REDACTED, value)
        if isinstance(value, list):
            return [self.without(part) for part in value]
        if isinstance(value, dict):
            return {key: self.without(part) for key, part in value.items()}
        return value


def quoted_in(message: str) -> list[str]:
    """The values that a message quotes as `show` does, whole ones alone."""
    values = []
    for quoted in _QUOTED.findall(message):
        try:
            values.append(str(ast.literal_eval(quoted)))
        except (SyntaxError, ValueError):
            continue  # quoted, but not by `show`
    return values


@contextmanager
def naming_no_forgotten(connection: Connection) -> Iterator[None]:
    """What the data of a forgotten user are blamed for is told without the user's id."""
    try:
        yield
    except DataError as error:
        message = str(error)
        for user_id in forgotten_among(connection, quoted_in(message)):
            message = Mentions(user_id).without(message)
        error.args = (message,)
        raise


def redact_texts(connection: Connection, user_id: str) -> int:
    """Take the user out of the ledger and the like, in the caller's transaction.

    The number of rows changed. Done twice, the second changes none.
    """
    mentions = Mentions(user_id)
    return sum(_redact(connection, written, mentions) for written in WRITTEN)


def _redact(connection: Connection, written: _Texts, mentions: Mentions) -> int:
    names = (*written.texts, *written.documents)
    # A cheap look first: few rows name anybody, and those are looked at closely.
    suspected = " OR ".join(f"strpos({name}::text, spelling) > 0" for name in names)
    rows = connection.execute(
        text(
            f"SELECT {', '.join((*written.key, *names))} FROM {written.table} "  # noqa: S608
            "WHERE EXISTS (SELECT FROM unnest(CAST(:spellings AS text[])) AS spelling "
            f"WHERE {suspected})"
        ),
        {"spellings": list(mentions.spellings)},
    ).mappings()
    changed = 0
    for row in rows.all():
        clean = {name: mentions.without(row[name]) for name in names}
        if all(clean[name] == row[name] for name in names):
            continue
        values = {
            name: json.dumps(value) if name in written.documents else value
            for name, value in clean.items()
        }
        assignments = (
            f"{name} = CAST(:{name} AS jsonb)" if name in written.documents else f"{name} = :{name}"
            for name in names
        )
        here = " AND ".join(f"{name} = :{name}" for name in written.key)
        connection.execute(
            text(
                f"UPDATE {written.table} SET {', '.join(assignments)} WHERE {here}"  # noqa: S608
            ),
            {**values, **{name: row[name] for name in written.key}},
        )
        changed += 1
    return changed
