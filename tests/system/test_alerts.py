"""Each alert fires from the fault that it is for: real jobs, a real scheduler, a real Prometheus.

Hours cannot be waited for. Where an alert is about them, the rows of the ledger are made older, as
time would make them; what reads and serves them is as it is.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import psycopg
import pytest
from sqlalchemy import make_url

from recjob.settings import Settings
from recjob.store.database import open_database
from recjob.store.embedded import SUPERUSER, EmbeddedServer
from recjob.store.schedule_runs import candidacy
from tests.command_line import environment
from tests.deploy.monitoring_files import rules
from tests.fixtures_shop import Shop, copy_shop
from tests.system.commands import wait_for
from tests.system.nights import NightServer
from tests.system.prometheus_server import Prometheus, prometheus_server
from tests.system.scheduler_process import scheduler_process

pytestmark = pytest.mark.system

REFUSED: Final = 4
SHORT_LISTS: Final = {"RECJOB_NIGHTLY__K": "1", "RECJOB_NIGHTLY__SPARE": "0"}
"""A mistake in the settings: lists of one outfit show a small part of the catalog."""
NO_LIMITS: Final = {"RECJOB_LIMITS__MAX_COVERAGE_LOSS": "1"}
QUICK_STANDBY: Final = {"RECJOB_SCHEDULE__STANDBY_SECONDS": "0.5"}
AT_WORK_SECONDS: Final = 0.002
STOPPED_SECONDS: Final = 0.02
"""A machine that others took most of: a process has it for a tenth of the time."""


@dataclass(frozen=True)
class Watch:
    """A shop whose scheduler starts nothing by itself, and Prometheus."""

    shop: Shop
    nights: NightServer
    prometheus: Prometheus

    def run(self, *arguments: str, **variables: str) -> None:
        """A command that must end well."""
        self.nights.start(self.shop, *arguments, variables=variables).result()


@pytest.fixture(scope="module")
def watch(
    trained_shop: Shop,
    postgres: EmbeddedServer,
    nights: NightServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watch]:
    """Tests share it, since each fault sets off alerts of its own."""
    folder = tmp_path_factory.mktemp("alerts")
    shop = copy_shop(trained_shop, postgres, folder / "shop")
    with (
        scheduler_process(shop.folder, shop.variables) as scheduler,
        prometheus_server(folder, {"recjob": [scheduler.target]}) as prometheus,
    ):
        wait_for(lambda: bool(prometheus.query("recjob:published_run_age_seconds")))
        yield Watch(shop, nights, prometheus)


def test_nothing_fires_before_there_is_a_fault(watch: Watch) -> None:
    # At the start, what reads a recorded figure may be a round ahead of what records it.
    wait_for(lambda: watch.prometheus.get("alerts")["alerts"] == [])


def test_a_slow_machine(watch: Watch) -> None:
    night = ("nightly-recommend", "--json")
    watch.run(*night)
    wait_for(lambda: bool(watch.prometheus.query("recjob:scoring_batch_seconds:median7d")))
    assert watch.prometheus.firing("RecjobLatencyUp") == []
    slow = watch.nights.start(watch.shop, *night, pause=("before scoring a shard", 1))
    slow.wait_for("before scoring a shard")
    slow.go_on()
    process = psutil.Process(slow.pid)
    while slow.poll() is None:
        process.suspend()
        time.sleep(STOPPED_SECONDS)
        process.resume()
        time.sleep(AT_WORK_SECONDS)
    slow.result()
    watch.prometheus.wait_for_alert("RecjobLatencyUp", work="scoring")


def test_a_killed_job_and_a_failed_one(watch: Watch) -> None:
    killed = watch.nights.start(
        watch.shop, "nightly-recommend", pause=("before scoring a shard", 1)
    )
    killed.wait_for("before scoring a shard")
    killed.kill()
    outfits = watch.shop.folder / "shop" / "outfits.csv"
    whole = outfits.read_text()
    outfits.write_text(whole + "new-outfit,no-such-item\n")
    failed = watch.nights.start(watch.shop, "import", "tables", "shop")
    assert failed.ended() not in (0, REFUSED)
    outfits.write_text(whole)
    watch.prometheus.wait_for_alert("RecjobJobKilled", job="nightly-recommend")
    watch.prometheus.wait_for_alert("RecjobJobFailed", job="import")
    watch.run("import", "tables", "shop", "--json")
    watch.prometheus.wait_for_silence("RecjobJobFailed")


def test_an_export_that_was_cut_off(watch: Watch) -> None:
    outfits = watch.shop.folder / "shop" / "outfits.csv"
    whole = outfits.read_text()
    outfits.write_text("".join(whole.splitlines(keepends=True)[:2]))
    snapshot = ("import", "tables", "shop", "--snapshot")
    refused = watch.nights.start(watch.shop, *snapshot)
    assert refused.ended() == REFUSED, refused.err
    outfits.write_text(whole)
    watch.prometheus.wait_for_alert("RecjobImportRefused")
    watch.run(*snapshot, "--json")
    watch.prometheus.wait_for_silence("RecjobImportRefused")


def test_a_night_held_back(watch: Watch) -> None:
    night = watch.nights.start(watch.shop, "nightly-recommend", variables=SHORT_LISTS)
    assert night.ended() == REFUSED, night.err
    watch.prometheus.wait_for_alert("RecjobRunHeldBack")


def test_a_night_that_shows_less_of_the_catalog(watch: Watch) -> None:
    watch.run("nightly-recommend", "--json", **SHORT_LISTS, **NO_LIMITS)
    watch.prometheus.wait_for_alert("RecjobCoverageDrop")
    watch.prometheus.wait_for_silence("RecjobRunHeldBack")


def test_a_student_that_the_gate_refuses_and_somebody_forces_into_use(watch: Watch) -> None:
    watch.run("distill", "--json", RECJOB_SEED="7")
    watch.run("compile", "--json")
    gate = watch.nights.start(
        watch.shop, "gate", variables={"RECJOB_GATE__MIN_POPULARITY_LEAD": "0.9"}
    )
    assert gate.ended() == REFUSED, gate.err
    watch.prometheus.wait_for_alert("RecjobRunRefusedByGate")
    assert watch.prometheus.firing("RecjobScoreDrift") == []
    watch.run("gate", "--force", "--json")
    watch.prometheus.wait_for_silence("RecjobRunRefusedByGate")
    watch.run("embed", "--json")
    watch.run("nightly-recommend", "--json", **NO_LIMITS)
    watch.prometheus.wait_for_alert("RecjobScoreDrift", model="another", severity="info")


def test_pictures_that_cannot_be_read(watch: Watch) -> None:
    pictures = sorted((watch.shop.folder / "shop" / "images").glob("*.jpg"))
    for path in pictures[:2]:
        path.write_bytes(b"not a picture")
    watch.run("import", "tables", "shop", "--json")
    watch.prometheus.wait_for_alert("RecjobImagesQuarantined")


def test_a_job_that_took_nearly_all_the_memory(watch: Watch) -> None:
    # The limit is the machine's or its cgroup's, which only root can lower. So the job's own word
    # about it, in the ledger, is made that of a smaller machine.
    watch.shop.rows(
        """
        UPDATE job_run SET metrics = jsonb_set(metrics, '{gauges}', (
            SELECT jsonb_agg(CASE gauge ->> 'name' WHEN 'recjob_memory_limit_bytes'
                THEN gauge || jsonb_build_object('value', (
                    SELECT max((peak ->> 'value')::float8) * 1.05
                    FROM jsonb_array_elements(job_run.metrics -> 'gauges') AS peak
                    WHERE peak ->> 'name' = 'recjob_job_peak_memory_bytes'))
                ELSE gauge END)
            FROM jsonb_array_elements(metrics -> 'gauges') AS gauge))
        WHERE metrics -> 'gauges' @> '[{"name": "recjob_memory_limit_bytes"}]'
        """
    )
    watch.prometheus.wait_for_alert("RecjobMemoryNearLimit", memory="host", job="import")


def test_a_published_run_grows_old(watch: Watch) -> None:
    watch.shop.rows("UPDATE recommendation_run SET written = written - interval '27 hours'")
    watch.prometheus.wait_for_alert("RecjobNoPublishedRun")


@contextmanager
def _database_away(postgres: EmbeddedServer, name: str) -> Iterator[None]:
    """Nobody can connect, and nobody stays connected."""
    with psycopg.connect(
        host=str(postgres.url.query["host"]), user=SUPERUSER, dbname=SUPERUSER, autocommit=True
    ) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


def test_scheduler_and_database_go(
    database_settings: Settings, postgres: EmbeddedServer, tmp_path: Path
) -> None:
    assert database_settings.database_url is not None
    url = make_url(database_settings.database_url.get_secret_value())
    variables = environment(database_settings.home, url.render_as_string(hide_password=False))
    with ExitStack() as elsewhere, ExitStack() as here:
        database = elsewhere.enter_context(open_database(database_settings))
        # A scheduler that Prometheus does not see has the lead, and hangs.
        assert elsewhere.enter_context(candidacy(database)).acquire()
        scheduler = here.enter_context(scheduler_process(tmp_path, variables | QUICK_STANDBY))
        prometheus = here.enter_context(prometheus_server(tmp_path, {"recjob": [scheduler.target]}))
        prometheus.wait_for_alert("RecjobNoSchedulerLeader")
        # Nothing was ever published here; only the 26 hours of the alert's `for` are left out.
        prometheus.wait_for_alert("RecjobNeverPublished")
        assert prometheus.firing("RecjobNoPublishedRun") == []
        elsewhere.close()
        prometheus.wait_for_silence("RecjobNoSchedulerLeader")
        with _database_away(postgres, str(url.database)):
            prometheus.wait_for_alert("RecjobDatabaseDown")
            assert prometheus.firing("RecjobNoSchedulerLeader") == []
        prometheus.wait_for_silence("RecjobDatabaseDown")
        prometheus.wait_for_silence("RecjobSchedulerGone")
        scheduler.process.send_signal(signal.SIGKILL)
        prometheus.wait_for_alert("RecjobSchedulerGone")


def test_every_alert_has_its_fault_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    names = {rule.name for rule in rules() if rule.alert}
    assert {name for name in names if f'wait_for_alert("{name}"' not in text} == set()
