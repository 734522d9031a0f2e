"""An export that is all that a shop has: what it lacks becomes unavailable.

Nothing is deleted: users liked what is gone, and what comes back is available again. An export
that would take too much away is a broken one, and refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection, text

from recjob.errors import RefusedError

Entity = Literal["item", "outfit"]
_OURS: Final[dict[Entity, str]] = {"item": "true", "outfit": "origin = 'shop'"}
"""Rows that an export has a say in: mixes are the nightly run's."""


@dataclass(frozen=True)
class Withdrawal:
    """What a snapshot did to the availability of items or outfits."""

    withdrawn: int
    """Were available and are not in the export."""
    returned: int
    """Were not available and are in the export, as available."""


def withdraw_absent(connection: Connection, entity: Entity, max_loss: float) -> Withdrawal:
    """Make what is not in the temporary table `new_item` or `new_outfit` unavailable.

    To be called in the import's transaction, before the rows of that table are written.

    Raises RefusedError where a larger share than `max_loss` of what is available would not be any
    more, whether it is absent or the export says so.
    """
    new, identity, ours = f"new_{entity}", f"{entity}_id", _OURS[entity]
    row = connection.execute(
        text(
            f"SELECT count(*) FILTER (WHERE old.available) AS before, "  # noqa: S608
            "count(*) FILTER (WHERE old.available AND new.available IS NOT TRUE) AS lost, "
            "count(*) FILTER (WHERE NOT old.available AND new.available) AS returned "
            f"FROM {entity} AS old LEFT JOIN {new} AS new USING ({identity}) WHERE {ours}"
        )
    ).one()
    if row.lost > max_loss * row.before:
        raise RefusedError(
            f"the export would make {row.lost} of {row.before} available {entity}s unavailable "
            f"({row.lost / row.before:.0%}), more than snapshot.max_{entity}_loss = {max_loss:g} "
            "allows; nothing was imported: see whether the export is whole, or raise the limit"
        )
    withdrawn = connection.execute(
        text(
            f"UPDATE {entity} SET available = false WHERE available AND {ours} AND NOT EXISTS "  # noqa: S608
            f"(SELECT FROM {new} WHERE {new}.{identity} = {entity}.{identity})"
        )
    ).rowcount
    return Withdrawal(withdrawn, row.returned)
