"""The state of the server that holds the database. Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from recjob.store.database import WRITER

ROLES = ("recjob_owner", WRITER, "recjob_reader", "recjob_monitor")


@dataclass(frozen=True)
class ServerState:
    """A server and our session on it."""

    version: str
    """Of Postgres."""
    user: str
    """Who logged in."""
    works_as: str
    superuser: bool
    """Whether `user` is one."""
    tls: str | None
    """Version and cipher; None: the connection is not encrypted."""
    local: bool
    """Whether it is a socket of this machine."""
    pgvector: str | None
    """Version of the extension; None: it is not there."""
    roles: tuple[str, ...]
    """Those of ours that exist."""


def server_state(connection: Connection) -> ServerState:
    """What the server says of itself and of this session."""
    row = connection.execute(
        text(
            "SELECT current_setting('server_version') AS version, session_user AS user, "
            "current_user AS works_as, "
            "(SELECT rolsuper FROM pg_roles WHERE rolname = session_user) AS superuser, "
            "(SELECT version || ', ' || cipher FROM pg_stat_ssl "
            "WHERE pid = pg_backend_pid() AND ssl) AS tls, "
            "inet_server_addr() IS NULL AS local, "
            "(SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector, "
            "ARRAY (SELECT rolname::text FROM pg_roles WHERE rolname = ANY (:roles)) AS roles"
        ),
        {"roles": list(ROLES)},
    ).one()
    return ServerState(**(dict(row._mapping) | {"roles": tuple(row.roles)}))


def picture_hashes(connection: Connection) -> list[str]:
    """sha256 of the picture of each item that is not in quarantine, each once."""
    return list(
        connection.scalars(
            text("SELECT DISTINCT image_sha256 FROM item WHERE image_sha256 IS NOT NULL")
        )
    )


def embedded_outfits(connection: Connection, model_id: str) -> int:
    """Outfits that Postgres holds a vector of the model of."""
    return int(
        connection.execute(
            text(
                "SELECT count(*) FROM outfit_embedding JOIN model USING (model_key) "
                "WHERE model_id = :model_id"
            ),
            {"model_id": model_id},
        ).scalar_one()
    )
