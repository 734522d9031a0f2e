"""The scheduler as a service: two of them, real jobs, a kill, a stop."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from recjob.jobs.schedule_entries import schedule_entries
from tests.fixtures_shop import Shop
from tests.system.commands import PATIENCE_SECONDS, clean_environment, command_line, wait_for

pytestmark = pytest.mark.system

NIGHTLY = "nightly-recommend"
OPTIONS = """
[schedule]
import_folder = "shop"
import_snapshot = false
autoencoder_cron = ""
teacher_cron = ""
student_cron = ""
retention_cron = ""
standby_seconds = 0.2
backoff_seconds = 0.2
backoff_factor = 1.0
kill_seconds = 60.0

[metrics]
port = 0
"""
"""An import, vectors and lists each night."""

ANOTHER_STUDENT = "epochs = 1\n"
"""In the shop's settings, the last of them, the student's: with others it is worth a training."""
GATE = "min_popularity_lead = -1.0\n"
"""In the shop's settings, the gate's; a few pictures teach no two students the same."""
LENIENT = "max_auc_loss = 1.0\nmax_cold_start_loss = 1.0\nmax_coverage_loss = 1.0\n"
LENIENT += "max_agreement_loss = 2.0\n"
BEYOND_REACH = "min_popularity_lead = 2.0\n"
"""An AUC is at most 1."""


class Service:
    """A scheduler in a process of its own."""

    def __init__(self, shop: Shop, number: int) -> None:
        self.log = shop.folder / f"scheduler-{number}.log"
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                command_line("schedule", "--settings", "night.toml"),
                cwd=shop.folder,
                env=clean_environment(**shop.variables),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def says(self, words: str) -> bool:
        """Whether its log has them; it must not have ended before."""
        found = words in self.log.read_text()
        assert found or self.process.poll() is None, self.log.read_text()
        return found

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """SIGKILL, which leaves its jobs alone."""
        self.process.kill()
        self.process.wait()


Start = Callable[[], Service]


@pytest.fixture
def start(shop: Shop) -> Iterator[Start]:
    """Starts schedulers on the shop, which has missed what `miss` says; kills what is left."""
    base = (shop.folder / "recjob.toml").read_text()
    (shop.folder / "night.toml").write_text(base + OPTIONS)
    # What the fixture has just run would count for the times that were missed.
    shop.rows(
        "UPDATE job_run SET started = started - interval '5 days', "
        "ended = ended - interval '5 days', heartbeat = heartbeat - interval '5 days'"
    )
    services: list[Service] = []

    def make() -> Service:
        services.append(Service(shop, len(services)))
        return services[-1]

    try:
        yield make
    finally:
        for service in services:
            if service.process.poll() is None:
                service.kill()
        for process in jobs(shop):
            process.kill()


def jobs(shop: Shop) -> list[psutil.Process]:
    """The shop's jobs that run now, whoever started them."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            ours = "night.toml" in words and Path(process.cwd()) == shop.folder
            if ours and "schedule" not in words:
                found.append(process)
        except psutil.Error:
            continue
    return found


def miss(shop: Shop, *names: str) -> None:
    """The last run of these was three days ago; the others have been dealt with."""
    from recjob.settings import load_settings

    settings = load_settings(shop.folder / "night.toml", dict(shop.variables))
    now = datetime.now(UTC)
    for entry in schedule_entries(settings):
        slot = now - timedelta(days=3) if entry.name in names else now
        shop.rows(
            "INSERT INTO schedule_run (entry, slot, started, ended, outcome, host, pid, cron) "
            "VALUES (%s, %s, %s, %s, 'done', 'before', 1, %s)",
            *(entry.name, slot, slot, slot, entry.identity),
        )


def outcomes(shop: Shop) -> dict[str, str]:
    """Of the latest time of each entry that this test's schedulers dealt with."""
    return dict(
        shop.rows(
            "SELECT DISTINCT ON (entry) entry, outcome FROM schedule_run WHERE host <> 'before' "
            "ORDER BY entry, slot DESC"
        )
    )


def runs(shop: Shop, job: str, after: int) -> list[str]:
    """How the runs of a job with higher numbers ended."""
    return [
        outcome
        for (outcome,) in shop.rows(
            "SELECT outcome FROM job_run WHERE job = %s AND run_id > %s ORDER BY run_id", job, after
        )
    ]


def newest(shop: Shop) -> int:
    """The number of the newest run."""
    [(number,)] = shop.rows("SELECT max(run_id) FROM job_run")
    return int(number)


def test_the_second_takes_over_when_the_first_is_killed(shop: Shop, start: Start) -> None:
    before = newest(shop)
    [(published,)] = shop.rows("SELECT current_run FROM publication")
    first = start()
    wait_for(lambda: first.says("leading"))
    second = start()
    wait_for(lambda: second.says("standing by"))
    wait_for(lambda: "nightly" in outcomes(shop))
    # It began with the next time. Had it begun three days ago, one would be missed.
    shop.rows("UPDATE schedule_run SET slot = slot - interval '3 days' WHERE entry = 'nightly'")
    wait_for(lambda: "running" in runs(shop, NIGHTLY, before))
    first.kill()
    wait_for(lambda: second.says("leading"))
    wait_for(lambda: outcomes(shop).get("nightly") not in (None, "running"))
    assert outcomes(shop)["nightly"] == "done"
    assert runs(shop, NIGHTLY, before) == ["done"], "the night went on without its scheduler"
    [(now_published,)] = shop.rows("SELECT current_run FROM publication")
    assert now_published > published
    assert second.stop() == 0
    assert second.log.read_text().count("standing by") == 1
    wait_for(lambda: not jobs(shop))  # of the first it may be on its way out


def test_a_stop_in_the_middle_and_the_missed_night_after_it(shop: Shop, start: Start) -> None:
    before = newest(shop)
    miss(shop, "import", "embed", "nightly")
    first = start()
    wait_for(lambda: "running" in runs(shop, "import", before))
    assert first.stop() == 0, first.log.read_text()
    assert not jobs(shop)
    assert "Traceback" not in first.log.read_text()
    stopped = outcomes(shop)
    # The import may have come to its end before it heard of it.
    assert stopped["import"] in ("killed", "done")
    assert "running" not in runs(shop, "import", before)
    assert {"embed", "nightly"}.isdisjoint(stopped), "nothing new was started"

    second = start()
    wait_for(lambda: outcomes(shop).get("nightly") not in (None, "running"))
    assert outcomes(shop) == {"import": "done", "embed": "done", "nightly": "done"}
    ended = shop.rows(
        "SELECT job FROM job_run WHERE run_id > %s AND outcome = 'done' ORDER BY run_id", before
    )
    assert ended == [("import",), ("embed",), (NIGHTLY,)], "each once, in this order"
    [(log,)] = shop.rows("SELECT log FROM schedule_run WHERE entry = 'nightly' AND attempts > 0")
    assert re.search(r"logs/nightly/\d{8}T\d{6}Z-1\.log$", str(log))
    assert f"cli.py {NIGHTLY}" in Path(log).read_text()
    assert second.stop() == 0


@pytest.mark.parametrize("passes", [True, False], ids=["passed", "refused"])
def test_a_student_is_trained_compiled_and_judged(shop: Shop, start: Start, passes: bool) -> None:
    path = shop.folder / "night.toml"
    text = path.read_text()
    changes = {
        'student_cron = ""': 'student_cron = "0 0 * * *"',
        ANOTHER_STUDENT: "epochs = 2\n",
        GATE: GATE + LENIENT if passes else BEYOND_REACH,
    }
    for old, new in changes.items():
        head, found, tail = text.rpartition(old)
        assert found
        text = head + new + tail
    path.write_text(text)
    before = newest(shop)
    in_use = shop.model_folder("student").name
    miss(shop, "student")
    service = start()
    wait_for(lambda: outcomes(shop).get("student") not in (None, "running"))
    [(outcome, reason)] = shop.rows(
        "SELECT outcome, reason FROM schedule_run WHERE entry = 'student' AND host <> 'before'"
    )
    [(trained, parent, status)] = shop.rows(
        "SELECT m.model_id, p.model_id, m.status FROM model m JOIN model p "
        "ON p.model_key = m.parent WHERE m.role = 'student' AND m.model_id <> %s",
        in_use,
    )
    assert parent == shop.model_folder("teacher").name
    assert list((shop.settings.home / "artifacts" / "models" / trained).glob("*.onnx"))
    ended = shop.rows("SELECT job, outcome FROM job_run WHERE run_id > %s ORDER BY run_id", before)
    if passes:
        assert (outcome, status) == ("done", "active"), reason
        assert ended == [("distill", "done"), ("compile", "done"), ("gate", "done")]
    else:
        assert (outcome, status) == ("refused", "candidate")
        assert "popularity" in reason
        assert ended == [("distill", "done"), ("compile", "done"), ("gate", "refused")]

    # Nights go on, with the student that is in use.
    [(published,)] = shop.rows("SELECT current_run FROM publication")
    shop.rows(
        "UPDATE schedule_run SET slot = slot - interval '3 days' "
        "WHERE entry IN ('embed', 'nightly')"
    )
    wait_for(lambda: runs(shop, NIGHTLY, before) == ["done"])
    [(model, now_published)] = shop.rows(
        "SELECT parameters ->> 'model', run_id FROM job_run JOIN publication "
        "ON run_id = current_run"
    )
    assert now_published > published
    assert model == (trained if passes else in_use)
    assert service.stop() == 0
