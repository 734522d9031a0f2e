"""Shards on a Ray cluster: inputs and results travel as files that every machine reaches.

The shard functions are those of one machine (`ray_workers`), so the results are equal. Ray Data
spreads them over the cluster and repeats those whose machine died.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from recjob import errors
from recjob.errors import RecjobError, SettingsError, TemporaryError
from recjob.jobs.ray_workers import (
    ERROR,
    MESSAGE,
    NODE,
    NUMBER,
    Latencies,
    Worker,
    do_shard,
    latencies_of,
)
from recjob.settings import RaySettings

CONNECT_SECONDS: Final = 10.0
"""Ray itself tries for a minute, and writes about it."""
OBJECT_STORE_BYTES: Final = 128 * 2**20
"""Of a cluster of this machine alone: only numbers of shards go through it; Ray takes no less
than 75 MB."""
ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray will do by default, and warns of
}
"""How Ray is started, where the environment does not say otherwise."""
THIS_MACHINE: Final = "local"


def run_shards(
    options: RaySettings,
    numbers: Sequence[int],
    prepare: Callable[[int], None],
    worker: type[Worker],
    arguments: tuple[Any, ...],
    done: Callable[[int, Latencies], None],
) -> Mapping[str, int]:
    """Do the shards `numbers`: write the inputs of some (`prepare`), let workers do them.

    `worker(*arguments)` is made once per process of the cluster (`arguments` are hashable); called
    with a number it reads the input of that shard and writes its result. `done` is called here
    after each shard, with what its batches took. Returns how many shards each node did, by Ray's id
    of the node.

    Raises SettingsError where Ray is missing or the cluster cannot be reached, what a shard
    raised where that is an error of the tree, and TemporaryError for lost machines.
    """
    ray, nodes = _connected(options), Counter[str]()
    for start in range(0, len(numbers), options.shards_ahead):
        part = numbers[start : start + options.shards_ahead]
        for number in part:
            prepare(number)
        rows = ray.data.from_items(
            [{NUMBER: number} for number in part], override_num_blocks=len(part)
        ).map(
            do_shard,
            fn_args=(worker, arguments),
            num_cpus=options.cpus_per_shard,
            num_gpus=options.gpus_per_shard or None,
            max_calls=0,  # processes live on, so that the next shard finds its model loaded
        )
        with _told(ray):
            for row in rows.iter_rows():
                if row[ERROR]:
                    raise getattr(errors, row[ERROR])(row[MESSAGE])
                nodes[row[NODE]] += 1
                done(int(row[NUMBER]), latencies_of(row))
    return dict(nodes)


def _connected(options: RaySettings) -> Any:
    """Ray, connected once per process: its workers keep what they loaded. It ends with us."""
    check_address(options.address)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError:
        raise SettingsError(
            'nightly.engine is "ray", but Ray is not installed; install recjob[ray], or set '
            'nightly.engine = "local"'
        ) from None
    if ray.is_initialized():
        return ray
    here: dict[str, Any] = {
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }
    try:
        with _our_signals():
            ray.init(
                address=options.address or THIS_MACHINE,
                log_to_driver=False,
                logging_level=logging.FATAL,
                **({} if options.address else here),
            )
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        raise _unreachable(options.address, error) from None
    data = ray.data.DataContext.get_current()
    data.raise_original_map_exception = True  # so that a fault can be named
    # Standard output is the result's, standard error has our own bar.
    data.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.FATAL)
    return ray


def check_address(address: str) -> None:
    """Raise SettingsError where nobody listens at HOST:PORT; anything else is for Ray to find."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()) or "/" in host:
        if address not in ("", "auto"):
            raise SettingsError(f'ray.address {address!r}: must be "auto", HOST:PORT or empty')
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, error) from None


def _unreachable(address: str, error: Exception) -> SettingsError:
    return SettingsError(
        f"ray.address {address!r}: no cluster answers ({_first_line(error)}); start one (`ray "
        "start --head`), or leave ray.address empty for this machine's cores"
    )


@contextmanager
def _our_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; it stays the job's, which ends by putting things in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _told(ray: Any) -> Iterator[None]:
    """What Ray raises as an error of the tree."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        raise RecjobError(
            f"a shard failed on the Ray cluster ({type(cause).__name__}: {_first_line(cause)})"
        ) from error
    except ray.exceptions.RayError as error:
        raise TemporaryError(
            f"a shard was lost on the Ray cluster ({type(error).__name__}: {_first_line(error)}); "
            "run it again: finished shards stay"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), "no reason given")
