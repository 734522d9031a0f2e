"""A night on a Ray cluster of two nodes shows what the same night on one machine shows."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from recjob.jobs.nightly_recommend import nightly_recommend
from recjob.settings import load_settings
from recjob.store.database import open_database
from recjob.store.run_queries import run_digest
from tests.fixtures_shop import Shop
from tests.system.commands import clean_environment, command_line, wait_for
from tests.system.ray_nodes import NODES, two_nodes

pytestmark = pytest.mark.system

SMALL_SHARDS = {
    "RECJOB_NIGHTLY__SHARD_USERS": "4",
    "RECJOB_NIGHTLY__SHARD_ITEMS": "24",
    "RECJOB_EMBED__BATCH_SIZE": "8",
}
SHARDS = 5
"""Of the shop's 17 users."""
STOP_SECONDS = 10.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with two_nodes() as address:
        yield address


@dataclass(frozen=True)
class Site:
    """A shop, a cluster, and the storage that they share: the shop's own artifacts are not it."""

    shop: Shop
    address: str
    shared: Path

    def start(self, **variables: str) -> subprocess.Popen[str]:
        """A night on the cluster."""
        return subprocess.Popen(
            command_line("nightly-recommend", "--json"),
            cwd=self.shop.folder,
            env=clean_environment(
                **self.shop.variables,
                **SMALL_SHARDS,
                RECJOB_NIGHTLY__ENGINE="ray",
                RECJOB_RAY__ADDRESS=self.address,
                RECJOB_ARTIFACTS_URL=self.shared.as_uri(),
                OMP_WAIT_POLICY="PASSIVE",
                **variables,
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def work(self, name: str) -> list[Path]:
        """Files of the work that is done, or at hand."""
        return [path for path in (self.shared / "work").rglob(name) if path.is_file()]

    def wait_for_work(self, process: subprocess.Popen[str], name: str) -> None:
        wait_for(lambda: bool(self.work(name)) or process.poll() is not None)
        assert process.poll() is None, process.communicate()


@pytest.fixture
def site(shop: Shop, cluster: str, tmp_path: Path) -> Site:
    """The shop before its first `embed`."""
    shared = tmp_path / "shared"
    shutil.copytree(shop.settings.home / "artifacts" / "models", shared / "models")
    forget(shop)
    return Site(shop, cluster, shared)


def forget(shop: Shop) -> None:
    """No vector of the shop is known."""
    for table in ("embedding_set", "item_feature", "outfit_embedding", "user_embedding"):
        shop.rows(f"DELETE FROM {table}")
    for file in shop.model_folder("student").glob("embeddings*"):
        file.unlink()


def result(process: subprocess.Popen[str]) -> Any:
    """What a command printed, after it ended well."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert not last_words(err), err
    return json.loads(out)


def last_words(err: str) -> list[str]:
    """Lines of standard error but for our warnings and progress; Ray must have none there."""
    ours = re.compile(r"\S+Z WARNING recjob\.|(items|outfits|users): [\d,]+ of ")
    return [line for line in err.splitlines() if not ours.match(line)]


def shown(shop: Shop) -> tuple[str, str]:
    """Digest of the published run, and sha256 of the file of vectors."""
    [(run_id,)] = shop.rows("SELECT current_run FROM publication")
    [(sha256,)] = shop.rows("SELECT sha256 FROM embedding_set")
    with open_database(shop.settings) as database, database.connect() as connection:
        return run_digest(connection, run_id), sha256


def shards_by_node(shop: Shop, what: str) -> list[int]:
    """Shards that each node did in the last run that gave any to the cluster."""
    [(nodes,)] = shop.rows(
        "SELECT parameters -> %s FROM job_run WHERE parameters ? %s ORDER BY run_id DESC LIMIT 1",
        what,
        what,
    )
    return sorted(nodes.values())


def test_interrupted_killed_and_continued_it_shows_what_one_machine_shows(site: Site) -> None:
    shop = site.shop
    settings = load_settings(shop.folder / "recjob.toml", shop.variables | SMALL_SHARDS)
    local = replace(shop, settings=settings).run("nightly-recommend", nightly_recommend)
    assert (local.new_items, local.shards) == (60, SHARDS)
    on_one_machine = shown(shop)
    forget(shop)

    few_at_a_time = {"RECJOB_RAY__SHARDS_AHEAD": "2"}
    embedding = site.start(**few_at_a_time)
    site.wait_for_work(embedding, "outfits-*")
    embedding.send_signal(signal.SIGTERM)
    out, err = embedding.communicate(timeout=STOP_SECONDS)
    assert (embedding.returncode, out, last_words(err)) == (130, "", ["interrupted"])
    kept = {path.name: path.stat().st_mtime_ns for path in site.work("items-*")}
    assert len(kept) == 3  # 60 items

    scoring = site.start(**few_at_a_time)
    site.wait_for_work(scoring, "lists-*")
    scoring.kill()
    scoring.communicate()
    assert scoring.returncode == -signal.SIGKILL
    assert 0 < len(site.work("lists-*")) < SHARDS

    night = site.start()
    site.wait_for_work(night, "users-*")
    value = result(night)
    assert shown(shop) == on_one_machine
    assert (value["shards"], value["run"]) == (SHARDS, value["run_id"])
    assert 0 < value["continued_shards"] < SHARDS
    assert value["new_items"] == 0
    assert not list((site.shared / "work").rglob("*-*"))
    for what in ("ray_outfits", "ray_users"):
        assert len(shards_by_node(shop, what)) == NODES, what
    # Machines of the cluster tell what they took; a shard of strangers takes nothing.
    [(timed,)] = shop.rows(
        "SELECT sum(count::integer) FROM job_run, "
        "jsonb_array_elements(metrics -> 'histograms') AS histogram, "
        "jsonb_array_elements_text(histogram -> 'counts') AS count "
        "WHERE run_id = %s AND histogram ->> 'name' = 'recjob_scoring_batch_seconds'",
        value["run_id"],
    )
    assert 0 < timed <= value["shards"] - value["continued_shards"]


def test_what_goes_wrong_there_is_told_here_in_one_line(site: Site) -> None:
    for file in (site.shared / "models").rglob("model.safetensors"):
        file.unlink()
    night = site.start()
    out, err = night.communicate()
    assert (night.returncode, out) == (2, "")
    [line] = last_words(err)
    assert line.startswith(f"error: {socket.gethostname()}: ")
    assert "model.safetensors" in line
