"""Commands in forked processes that tell where they are, and stop there where they are told to.

`python -m tests.system.killable` loads the program once and forks a process for each request, so
that a command starts in a moment. A process runs `recjob.cli.main()` as it is; some functions are
wrapped there, so that they write a line to the file `moments` when they are entered and left. At
the moment that the request names the process stands still until somebody opens its FIFO `go`.

Requests and answers are lines of JSON on standard input and output: see `serve`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

STARTS: Final = "starts"
MOMENTS, GO, OUT, ERR = "moments", "go", "out", "err"
"""Files in the folder of a process."""


@dataclass
class Moments:
    """Where a process is."""

    folder: Path
    pause: tuple[str, int] | None
    """At which moment to stand still, and the how manieth of that name; None: nowhere."""
    seen: Counter[str] = field(default_factory=Counter)

    def reach(self, name: str) -> None:
        """Write it down, and stand still where it is the one."""
        self.seen[name] += 1
        with (self.folder / MOMENTS).open("a") as file:
            file.write(f"{time.monotonic():.6f} {name}\n")
        if self.pause == (name, self.seen[name]):
            # Opening a FIFO waits for its other end. Signals interrupt it, as any work.
            (self.folder / GO).open().close()

    def wrap(self, where: Any, function: str, name: Callable[..., str | None]) -> None:
        """`before NAME` and `after NAME` around a function; `name` of its arguments, None: not."""
        real = getattr(where, function)

        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            called = name(*arguments)
            if called is None:
                return real(*arguments, **keywords)
            self.reach(f"before {called}")
            result = real(*arguments, **keywords)
            self.reach(f"after {called}")
            return result

        setattr(where, function, wrapped)


def listen(moments: Moments) -> None:
    """Wrap the functions of a night."""
    from recjob.jobs import embeddings, night_shards, nightly_recommend, runner
    from recjob.jobs.embedding_shards import Leftovers
    from recjob.store import publication, run_lists, storage
    from recjob.store.artifacts import ArtifactFolder
    from recjob.store.ledger import Lease

    contexts: Any = runner.JobContext
    measured: Callable[..., AbstractContextManager[Any]] = contexts.stage

    @contextmanager
    def stage(context: Any, name: str) -> Iterator[Any]:
        with measured(context, name) as value:
            moments.reach(f"{name} begins")
            yield value
            moments.reach(f"{name} ends")

    contexts.stage = stage
    wrap = moments.wrap
    wrap(run_lists, "copy_rows_in", lambda *_: "copy")
    wrap(nightly_recommend, "load_run", lambda *_: "load is committed")
    wrap(
        publication,
        "call_partition_function",
        lambda connection, action, run_id: action if action == "attach" else None,
    )
    wrap(nightly_recommend, "keep_run", lambda *_: "attach is committed")
    wrap(publication, "_show", lambda *_: "flip")
    wrap(nightly_recommend, "show_run", lambda *_: "flip is committed")
    wrap(night_shards, "one_shard", lambda context, night, start, stop: "scoring a shard")
    wrap(night_shards.ShardWork, "write", lambda work, number, lists: f"shard {number}")
    wrap(Leftovers, "write", lambda _, what, keys, vectors: f"{what} {keys.tobytes().hex()[:32]}")
    wrap(storage, "sync_file", lambda path: "work file is synced")
    wrap(embeddings, "register_embedding_set", lambda *_: "vectors are registered")
    wrap(ArtifactFolder, "share", lambda *_: "finished file is shared")
    wrap(ArtifactFolder, "remove_files", lambda *_: "old vectors are removed")
    wrap(runner, "_record_failure", lambda *_: "failure is recorded")
    wrap(Lease, "end", lambda *_: "end")


def serve() -> None:
    """Answer requests until standard input ends; what still runs then is killed.

    `{"arguments": [...], "environment": {...}, "cwd": ..., "folder": ..., "pause": [name, n]}`
    starts a command and answers with its pid; `{"poll": pid}` answers with its exit code (minus
    the signal's number where one ended it), or null while it runs.
    """
    _load()
    running: set[int] = set()
    print("null", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer: int | None
        if "poll" in request:
            pid, status = os.waitpid(request["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
            running.discard(pid)
        else:
            answer = os.fork()
            if answer == 0:
                _become(request)
            running.add(answer)
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _load() -> None:
    """Load the program, and compile what it compiles when it is first used.

    One thread does it all: threads do not survive a fork.
    """
    import numpy as np
    import pyarrow as pa
    import torch

    import recjob.cli.app
    import recjob.jobs.nightly_recommend
    import recjob.jobs.queries  # noqa: F401
    from recjob.ranking.top_k import top_k

    pa.chunked_array([[1]]).to_numpy()  # loads pandas, where there is one
    torch.set_num_threads(1)
    vectors = np.eye(8, 128, dtype=np.float32)
    none = np.zeros(len(vectors) + 1, np.int64), np.zeros(0, np.int64)
    top_k(vectors, vectors, 2, exclude=none, allowed=np.ones(len(vectors), np.bool_))


def _become(request: dict[str, Any]) -> None:
    """Be the command; does not return."""
    folder = Path(request["folder"])
    descriptors = [
        os.open(os.devnull, os.O_RDONLY),
        *(os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600) for name in (OUT, ERR)),
    ]
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    code = 1
    try:
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])
        sys.argv = ["cli.py", *request["arguments"]]
        pause = request["pause"]
        moments = Moments(folder, None if pause is None else (pause[0], pause[1]))
        listen(moments)
        moments.reach(STARTS)
        from recjob.cli import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
