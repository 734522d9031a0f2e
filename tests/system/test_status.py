"""`status`, `doctor` and the log, from the real program."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recjob.store.embedded import EmbeddedServer
from tests.command_line import environment
from tests.fixtures_database import scratch_folder
from tests.fixtures_shop import Shop, copy_shop
from tests.system.nights import Night, NightServer

pytestmark = pytest.mark.system


class Bare(Shop):
    """A shop whose variables name no database."""

    @property
    def variables(self) -> dict[str, str]:
        """For commands that run in `folder`."""
        return environment(self.settings.home, None)


@pytest.fixture
def night_shop(changed_shop: Shop, postgres: EmbeddedServer, tmp_path: Path) -> Shop:
    """The shop before a night, with new pictures."""
    return copy_shop(changed_shop, postgres, tmp_path / "shop")


def told(night: Night, code: int) -> dict[str, Any]:
    """The JSON object of a command that ends with `code`."""
    assert night.ended() == code, night.err
    value = json.loads(night.out)
    assert isinstance(value, dict)
    return value


def test_before_anything(shop: Shop, nights: NightServer, tmp_path: Path) -> None:
    home = tmp_path / "nothing"
    settings = shop.settings.model_copy(update={"home": home})
    nowhere = Bare(shop.folder, "", settings, shop.results)
    page = nights.start(nowhere, "status")
    assert page.ended() == 6, page.err
    assert "nothing here yet" in page.out
    assert told(nights.start(nowhere, "status", "--json"), 6)["note"]
    variables = {"RECJOB_METRICS__SINK": "none"}  # the port may be another test's
    checks = told(nights.start(nowhere, "doctor", "--json", variables=variables), 0)["checks"]
    assert {check["outcome"] for check in checks} <= {"ok", "warning"}
    assert not home.exists()


def test_after_a_night_and_when_it_is_stale(night_shop: Shop, nights: NightServer) -> None:
    night = nights.start(
        night_shop, "--log-format", "json", "--log-level", "info", "nightly-recommend", "--json"
    )
    result = night.result()
    lines = [json.loads(line) for line in night.err.splitlines()]
    ours = [line for line in lines if line["job"] == "nightly-recommend"]
    assert {line["run_id"] for line in ours} == {result["run_id"]}
    measured = {line["stage"]: line["items"] for line in ours if "peak_memory_bytes" in line}
    assert measured == {stage["name"]: stage["items"] for stage in result["stages"]}
    assert ours[0]["message"].startswith("started, pid ")
    assert ours[-1]["outcome"] == "done"

    runs = night_shop.rows("SELECT count(*) FROM job_run")
    fresh = told(nights.start(night_shop, "status", "--json"), 0)
    assert fresh["published"]["run"] == result["run_id"]
    assert fresh["published"]["lists"] == result["lists"]
    [last] = [job for job in fresh["jobs"] if job["job"] == "nightly-recommend"]
    assert (last["run"], last["outcome"]) == (result["run_id"], "done")
    assert {model["role"] for model in fresh["models"]} >= {"autoencoder", "teacher", "student"}
    assert fresh["disk"]["pictures"] > 0

    night_shop.rows("UPDATE recommendation_run SET written = written - interval '27 hours'")
    stale = nights.start(night_shop, "status")
    assert stale.ended() == 6
    assert f"error: the published run {result['run_id']} is 27.0 hours old" in stale.err
    assert "27.0 h old" in stale.out
    patient = {"RECJOB_STATUS__STALE_HOURS": "28"}
    assert told(nights.start(night_shop, "status", "--json", variables=patient), 0)["stale"] is None
    assert night_shop.rows("SELECT count(*) FROM job_run") == runs


def test_doctor_finds_a_damaged_artifact(night_shop: Shop, nights: NightServer) -> None:
    variables = {"RECJOB_METRICS__SINK": "none"}  # the port may be another test's
    whole = told(nights.start(night_shop, "doctor", "--json", variables=variables), 0)
    found = {check["name"]: check["outcome"] for check in whole["checks"]}
    assert (found["artifacts"], found["index"], found["pictures"]) == ("ok", "ok", "ok")

    [file] = night_shop.model_folder("teacher").glob("model.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()  # a link to the file of other tests
    file.write_bytes(content)
    (night_shop.settings.home / "images" / "64" / "index.txt").unlink()
    broken = nights.start(night_shop, "doctor", "--json", variables=variables)
    checks = {check["name"]: check for check in told(broken, 1)["checks"]}
    assert broken.err == "error: 2 checks failed: pictures, artifacts\n"
    assert str(file) in checks["artifacts"]["found"]
    assert all(checks[name]["fix"] for name in ("artifacts", "pictures"))
    page = nights.start(night_shop, "doctor", variables=variables)
    assert page.ended() == 1
    assert "→ " in page.out


def test_a_stopped_database(shop: Shop, nights: NightServer) -> None:
    with scratch_folder() as folder:
        server = EmbeddedServer(folder / "postgres")
        server.start()
        away = replace(shop, url=str(server.url))
        try:
            assert nights.start(away, "db", "upgrade").ended() == 0
            assert told(nights.start(away, "status", "--json"), 6)["published"] is None
        finally:
            server.stop()
        assert "database " in nights.start(away, "status").message(5)
        doctor = nights.start(away, "doctor", "--json")
        checks = {check["name"]: check for check in told(doctor, 1)["checks"]}
        assert checks["database"]["outcome"] == "failed"
        assert checks["home"]["outcome"] == "ok"
