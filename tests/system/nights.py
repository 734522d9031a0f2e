"""Starting commands that can be killed at any moment, and what they leave."""

from __future__ import annotations

import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

from PIL import Image, ImageOps

from recjob.jobs.import_tables import import_tables
from tests.fixtures_shop import Shop
from tests.system.commands import PATIENCE_SECONDS, ROOT, clean_environment
from tests.system.killable import ERR, GO, MOMENTS, OUT

SMALL_SHARDS: Final = {
    "RECJOB_NIGHTLY__SHARD_USERS": "4",
    "RECJOB_NIGHTLY__SHARD_ITEMS": "8",
    "RECJOB_EMBED__BATCH_SIZE": "8",
}
WARNING: Final = re.compile(r"\S+Z WARNING ")
"""How a warning of the log begins."""
SHARDS: Final = 5
"""Of the shop's 17 users."""
POLL_SECONDS: Final = 0.002
NEW_PICTURES: Final = 16


@dataclass(frozen=True)
class Night:
    """A command at work, or what it left."""

    pid: int
    folder: Path
    poll: Callable[[], int | None]
    """Its exit code once it has ended."""

    @property
    def out(self) -> str:
        """What it wrote to standard output so far."""
        return (self.folder / OUT).read_text()

    @property
    def err(self) -> str:
        """What it wrote to standard error so far."""
        return (self.folder / ERR).read_text()

    def moments(self) -> list[tuple[float, str]]:
        """When it was where, so far."""
        try:
            lines = (self.folder / MOMENTS).read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(float(when), name) for when, _, name in (line.partition(" ") for line in lines)]

    def count(self, name: str) -> int:
        """How often it was there."""
        return sum(found == name for _, found in self.moments())

    def wait_for(self, name: str, times: int = 1) -> None:
        """Wait until it is there."""
        wait_until(lambda: self.count(name) >= times or self._is_over(name))

    def go_on(self) -> None:
        """Let it leave the moment where it stands still."""
        (self.folder / GO).open("w").close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, which must be what ends it."""
        self.signal(signal.SIGKILL)
        assert self.ended() == -signal.SIGKILL, self.err

    def ended(self, within_seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code, when it has ended."""
        wait_until(lambda: self.poll() is not None, within_seconds)
        code = self.poll()
        assert code is not None
        return code

    def result(self) -> dict[str, Any]:
        """What it printed with --json, after it ended well."""
        assert self.ended() == 0, self.err
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    def message(self, code: int) -> str:
        """Its last words, one line, when it has ended with `code`."""
        assert (self.ended(), self.out) == (code, ""), self.err
        lines = [line for line in self.err.splitlines() if not WARNING.match(line)]
        assert len(lines) == 1, self.err
        return lines[0].removeprefix("error: ")

    def _is_over(self, name: str) -> bool:
        code = self.poll()
        if code is not None and not self.count(name):
            raise AssertionError(f"ended with {code} and was never at {name!r}: {self.err}")
        return code is not None


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until it holds, and look often."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(POLL_SECONDS)


class NightServer:
    """Forks commands of the program; see `tests.system.killable`."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._numbers = itertools.count(1)
        self._codes: dict[int, int] = {}

    def start(
        self,
        shop: Shop,
        *arguments: str,
        variables: Mapping[str, str] = MappingProxyType({}),
        pause: tuple[str, int] | None = None,
    ) -> Night:
        """A command on a shop, which stands still at `pause`: a moment and the how manieth."""
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        os.mkfifo(folder / GO)
        pid = self._ask(
            {
                "arguments": arguments,
                "environment": clean_environment(**shop.variables, **SMALL_SHARDS, **variables),
                "cwd": str(shop.folder),
                "folder": str(folder),
                "pause": pause,
            }
        )
        assert pid is not None
        return Night(pid, folder, partial(self._poll, pid))

    def night(
        self, shop: Shop, variables: Mapping[str, str], pause: tuple[str, int] | None = None
    ) -> Night:
        """`nightly-recommend`."""
        return self.start(shop, "nightly-recommend", "--json", variables=variables, pause=pause)

    def digest(self, shop: Shop) -> str:
        """That of the published run."""
        return str(self.start(shop, "runs", "show", "--published", "--json").result()["digest"])

    def _poll(self, pid: int) -> int | None:
        if pid not in self._codes:
            code = self._ask({"poll": pid})
            if code is not None:
                self._codes[pid] = code
        return self._codes.get(pid)

    def _ask(self, request: dict[str, Any]) -> int | None:
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> int | None:
        """The server's next word."""
        out: IO[str] | None = self._process.stdout
        assert out is not None
        ready, _, _ = select.select([out], [], [], PATIENCE_SECONDS)
        assert ready, "the server of nights does not answer"
        answer = json.loads(out.readline())
        assert answer is None or isinstance(answer, int)
        return answer


@contextmanager
def night_server(folder: Path) -> Iterator[NightServer]:
    """A server whose commands keep their files in `folder`; it kills what still runs at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.system.killable"],
        cwd=ROOT,
        env=clean_environment(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        server = NightServer(process, folder)
        server.answer()
        yield server


def change_pictures(shop: Shop) -> None:
    """New pictures of some items, imported and not embedded, and a new user."""
    source = shop.folder / "shop"
    for path in sorted((source / "images").glob("*.jpg"))[:NEW_PICTURES]:
        with Image.open(path) as picture:
            ImageOps.mirror(picture.convert("RGB")).save(path, quality=95)
    with (source / "users.csv").open("a") as file:
        file.write("late-comer\n")
    shop.run("import", partial(import_tables, folder=source))
