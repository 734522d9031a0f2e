"""A Ray cluster of two nodes on this machine, in a process of its own, until its input ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.system.commands import ROOT, clean_environment

NODES: Final = 2
ENVIRONMENT: Final = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # Ray would let everything else on the machine go first
}
OBJECT_STORE_BYTES: Final = 80 * 2**20


@contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a cluster of two nodes with one CPU each."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.system.ray_nodes"],
        cwd=ROOT,
        env=clean_environment(**ENVIRONMENT),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate()


def main() -> None:
    """Start the nodes, tell their address, and stop them when standard input is closed."""
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES}
    cluster: Any = Cluster(
        initialize_head=True, head_node_args={**node, "include_dashboard": False}
    )
    try:
        for _ in range(NODES - 1):
            cluster.add_node(**node)
        print(cluster.address, flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
