"""Shards on a Ray cluster: inputs and results travel as files that every machine reaches.

The shard functions are those of one machine (`ray_workers`), so the results are equal. Ray Data
spreads them over the cluster and repeats those whose machine died.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from recjob.errors import RecjobError, SettingsError, TemporaryError
from recjob.settings import RaySettings

NUMBER = "number"
"""Column of Ray Data's rows: which shard."""


def run_shards(
    options: RaySettings,
    numbers: Sequence[int],
    prepare: Callable[[int], None],
    worker: type,
    arguments: tuple[Any, ...],
    done: Callable[[int], None],
) -> None:
    """Do the shards `numbers`: write the inputs of some (`prepare`), let workers do them.

    `worker(*arguments)` is made once per process of the cluster; called with a row
    `{"number": n}` it reads the input of shard n, writes its result, and returns the row. `done`
    is called here after each shard.

    Raises SettingsError where Ray is missing or the cluster cannot be reached, what a shard
    raised where that is an error of the tree, and TemporaryError for lost machines.
    """
    with _cluster(options) as ray:
        from ray.data import ActorPoolStrategy, from_items

        for start in range(0, len(numbers), options.shards_ahead):
            part = numbers[start : start + options.shards_ahead]
            for number in part:
                prepare(number)
            rows = from_items([{NUMBER: n} for n in part], override_num_blocks=len(part)).map(
                worker,
                fn_constructor_args=arguments,
                compute=ActorPoolStrategy(min_size=1, max_size=len(part)),
                num_cpus=options.cpus_per_shard,
                num_gpus=options.gpus_per_shard or None,
            )
            with _told(ray):
                for row in rows.iter_rows():
                    done(int(row[NUMBER]))


@contextmanager
def _cluster(options: RaySettings) -> Iterator[Any]:
    """Ray, connected; it is left again unless somebody else had connected it."""
    try:
        import ray
        import ray.data
    except ImportError:
        raise SettingsError(
            'nightly.engine is "ray", but Ray is not installed; install recjob[ray], or set '
            'nightly.engine = "local"'
        ) from None
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(
                address=options.address or None,
                include_dashboard=None if options.address else False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise SettingsError(
                f"ray.address {options.address!r}: no cluster answers "
                f"({str(error).splitlines()[0]}); start one (`ray start --head`), or leave "
                "ray.address empty for this machine's cores"
            ) from None
    # Standard output is the result's, and our own bar tells how it goes.
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _told(ray: Any) -> Iterator[None]:
    """What workers raise, as an error of the tree."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, RecjobError):
                raise type(cause)(str(cause).splitlines()[0]) from error
            cause = getattr(cause, "cause", None) or cause.__cause__
        lines = [line for line in str(error).splitlines() if line.strip()] or ["no reason given"]
        raise TemporaryError(
            f"a shard failed on the Ray cluster ({lines[-1].strip()}); run it again: finished "
            "shards stay"
        ) from error
