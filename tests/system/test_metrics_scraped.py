"""Prometheus scrapes a scheduler while it works: every rule and every panel finds its figures."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import psutil
import pytest

from recjob.store.embedded import EmbeddedServer
from tests.deploy.monitoring_files import Panel, Rule, panels, rules
from tests.fixtures_shop import Shop, copy_shop
from tests.system.commands import wait_for
from tests.system.nights import SMALL_SHARDS, NightServer
from tests.system.prometheus_server import Prometheus, prometheus_server
from tests.system.scheduler_process import scheduler_process

pytestmark = pytest.mark.system

EACH_NIGHT: Final = {
    "RECJOB_SCHEDULE__EMBED_CRON": "30 1 * * *",
    "RECJOB_SCHEDULE__NIGHTLY_CRON": "0 2 * * *",
}
SCHEDULED: Final = ("embed", "nightly-recommend")
BY_HAND: Final = "evaluate"
"""As cron would start it: the scheduler hears of it from the ledger alone."""
VARIABLES: Final = {"$__rate_interval": "5m", "$job": ".*", "$engine": ".*"}
"""What Grafana puts in; a range that holds the whole run."""

COMPLETE: Final = " and on () ".join(
    [
        "count(recjob_model_info)",
        "count(recjob:memory_used:ratio)",
        "recjob:catalog_coverage_ratio:max",
        "count(recjob:scoring_batch_seconds:median7d)",
    ]
)

NO_GPU: Final = "the machine of this test has no GPU, and what is absent is left out"
EMPTY: Final = {
    "GPU memory of jobs": NO_GPU,
    "GPU memory of stages": NO_GPU,
}
"""Panels that show nothing here, and why."""
SILENT: Final = {"RecjobNeverPublished": "holds only where no run was ever published"}
"""Alerts whose expression finds nothing here even without its comparison, and why."""


@dataclass(frozen=True)
class Watched:
    """A Prometheus that saw a scheduled embedding, a night and an evaluation."""

    prometheus: Prometheus
    at: float
    """Seconds since 1970: a moment after all that, whose figures are whole. On a busy machine a
    scrape may fail, and with it all that is asked at that moment."""

    def values(self, expression: str) -> list[float]:
        """The numbers of an expression at that moment."""
        return self.prometheus.values(expression, self.at)


@pytest.fixture(scope="module")
def watched(
    changed_shop: Shop,
    postgres: EmbeddedServer,
    nights: NightServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    shop = copy_shop(changed_shop, postgres, folder / "shop")
    with (
        scheduler_process(shop.folder, shop.variables | SMALL_SHARDS, EACH_NIGHT) as scheduler,
        prometheus_server(folder, {"recjob": [scheduler.target]}) as prometheus,
    ):
        # Counters grow only for who has seen them before.
        wait_for(lambda: bool(prometheus.query("recjob_job_runs_total")))
        wait_for(lambda: len(shop.rows("SELECT 1 FROM schedule_run")) == len(SCHEDULED))
        # Two days pass, in which the machine was off: what was missed is made up for at once.
        shop.rows(
            "UPDATE job_run SET started = started - interval '2 days', "
            "heartbeat = heartbeat - interval '2 days', ended = ended - interval '2 days'"
        )
        shop.rows("UPDATE schedule_run SET slot = slot - interval '2 days'")
        _hold_until_seen(shop, prometheus)
        done = "SELECT 1 FROM schedule_run WHERE outcome = 'done'"
        wait_for(lambda: len(shop.rows(done)) == len(SCHEDULED))
        nights.start(shop, BY_HAND, "--json").result()
        ended = f'recjob_job_last_success_timestamp_seconds{{job="{BY_HAND}"}} > {_now(shop)} - 30'
        wait_for(lambda: bool(prometheus.query(ended)))
        at = _complete_moment(prometheus)
        yield Watched(prometheus, at)


def _hold_until_seen(shop: Shop, prometheus: Prometheus) -> None:
    """Stop the scheduled embedding, which is over in a moment, until Prometheus has seen it."""
    running = "SELECT pid FROM job_run WHERE job = 'embed' AND outcome = 'running'"
    found: list[tuple[Any, ...]] = []

    def is_running() -> bool:
        found[:] = shop.rows(running)
        return bool(found)

    wait_for(is_running)
    process = psutil.Process(found[0][0])
    process.suspend()
    try:
        wait_for(lambda: bool(prometheus.query('recjob_job_running{job="embed"} == 1')))
    finally:
        process.resume()


def _complete_moment(prometheus: Prometheus) -> float:
    """Seconds since 1970 at which a scrape was there, and what rules record of what they record."""
    found: list[float] = []

    def is_complete() -> bool:
        found[:] = [time.time()]
        return bool(prometheus.query(COMPLETE, found[0]))

    wait_for(is_complete)
    return found[0]


def _now(shop: Shop) -> float:
    [(seconds,)] = shop.rows("SELECT extract(epoch FROM now())::float8")
    return float(seconds)


def in_grafana(expression: str) -> str:
    """An expression as Grafana sends it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def without_comparison(expression: str) -> str:
    """An alert's condition that says 0 or 1 where it compares, instead of nothing or something."""
    condition, unless, exception = expression.partition("unless")
    return re.sub(r" (==|!=|<|>|<=|>=) (?=[0-9])", r" \1 bool ", condition) + unless + exception


def test_a_job_is_seen_while_it_is_at_work(watched: Watched) -> None:
    assert watched.values('max_over_time(recjob_job_running{job="embed"}[1h])') == [1]
    assert watched.values('recjob_job_running{job="embed"}') == [0]


def test_prometheus_has_nothing_against_rules_and_targets(watched: Watched) -> None:
    groups = watched.prometheus.get("rules")["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    assert sorted(rule["name"] for rule in loaded) == sorted(rule.name for rule in rules())
    assert [rule for rule in loaded if rule["health"] != "ok"] == []
    assert watched.values('up{job="recjob"}') == [1]


@pytest.mark.parametrize(
    "rule", [rule for rule in rules() if not rule.alert], ids=lambda rule: rule.name
)
def test_recorded_figures_are_there(watched: Watched, rule: Rule) -> None:
    found = watched.values(rule.expression)
    if rule.labels.get("memory") == "gpu":
        assert found == [], NO_GPU
    else:
        assert found
        assert watched.values(rule.name)


@pytest.mark.parametrize(
    "rule", [rule for rule in rules() if rule.alert], ids=lambda rule: rule.name
)
def test_alerts_have_something_to_compare(watched: Watched, rule: Rule) -> None:
    assert bool(watched.values(without_comparison(rule.expression))) != (rule.name in SILENT)


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel.title)
def test_panels_show_something(watched: Watched, panel: Panel) -> None:
    for expression in panel.expressions:
        found = watched.values(in_grafana(expression))
        assert bool(found) != (panel.title in EMPTY), expression


def test_nothing_is_wrong_on_a_good_day(watched: Watched) -> None:
    # A tiny shop's scores and coverage move a lot with sixteen new pictures.
    moving = {"RecjobScoreDrift", "RecjobCoverageDrop", "RecjobLatencyUp"}
    firing = watched.prometheus.query('ALERTS{alertstate="firing"}', watched.at)
    assert {alert.labels["alertname"] for alert in firing} <= moving
