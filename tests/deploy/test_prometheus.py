"""Rules of Prometheus: promtool accepts them, they name what is there, and each alert is tested."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from recjob.monitoring.definitions import METRICS
from recjob.settings import Settings
from tests.deploy.monitoring_files import (
    DEPLOY,
    PROMETHEUS,
    RULE_TESTS,
    RULES,
    Rule,
    metrics_in,
    panels,
    read_yaml,
    recorded_in,
    rules,
)
from tests.programs import installed

RUNBOOK: Final = DEPLOY.parent / "docs" / "operations.md"
HISTOGRAM_PARTS: Final = ("_bucket", "_sum", "_count")
ALERTS: Final = [rule for rule in rules() if rule.alert]
RULE_TEST_CASES: Final = [
    case
    for file in sorted(RULE_TESTS.glob("*.yml"))
    for test in read_yaml(file)["tests"]
    for case in test.get("alert_rule_test", [])
]
RECORDED: Final = [rule for rule in rules() if not rule.alert]


def served_names() -> set[str]:
    """Names of all series that the program can serve."""
    return {
        name + part
        for name, definition in METRICS.items()
        for part in (HISTOGRAM_PARTS if definition.kind == "histogram" else ("",))
    }


def expressions() -> list[str]:
    """Of every rule and every panel."""
    return [rule.expression for rule in rules()] + [
        expression for panel in panels() for expression in panel.expressions
    ]


def promtool(*arguments: str | Path) -> None:
    """Run promtool, which must be content."""
    program = installed("promtool", "prometheus")
    ended = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.system
def test_promtool_accepts_configuration_and_rules() -> None:
    promtool("check", "config", "--lint-fatal", PROMETHEUS)
    promtool("check", "rules", "--lint-fatal", *sorted(RULES.glob("*.yml")))


@pytest.mark.system
def test_alerts_fire_when_they_should_and_not_otherwise() -> None:
    promtool("test", "rules", *sorted(RULE_TESTS.glob("*.yml")))


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule.name)
def test_rule_tests_have_each_alert_fire_and_stay_silent(rule: Rule) -> None:
    name = rule.name
    found = [case for case in RULE_TEST_CASES if case["alertname"] == name]
    assert any(case["exp_alerts"] for case in found), f"{name} fires in no rule test"
    assert any(not case["exp_alerts"] for case in found), f"{name} is silent in no rule test"


def test_rules_and_panels_name_only_what_the_program_serves_or_a_rule_records() -> None:
    named = set().union(*map(metrics_in, expressions()))
    assert named, "the pattern of names finds nothing"
    assert named <= served_names()
    recorded = set().union(*map(recorded_in, expressions()))
    assert recorded == {rule.name for rule in RECORDED}


def test_every_metric_is_seen_by_a_rule_or_a_panel() -> None:
    named = set().union(*map(metrics_in, expressions()))
    unseen = {
        name
        for name, definition in METRICS.items()
        if not any(
            name + part in named
            for part in (HISTOGRAM_PARTS if definition.kind == "histogram" else ("",))
        )
    }
    assert unseen == set()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_aggregation_makes_one_series_of_what_several_schedulers_say(rule: Rule) -> None:
    # A figure of the ledger that is used without `max by` or the like fires once per scheduler.
    expression = rule.expression
    rest = re.sub(r"\b(max|min)(?: by \([a-z, ]+\))? ?\((?:[^()]|\([^()]*\))*\)", "", expression)
    assert metrics_in(rest) == set()


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule.name)
def test_alerts_tell_what_is_wrong_and_where_to_read_what_to_do(rule: Rule) -> None:
    severities = set(re.findall(r"\w+", re.sub(r"{{.*?}}", " ", rule.labels["severity"])))
    assert severities
    assert severities <= {"critical", "warning", "info"}
    assert rule.annotations["summary"]
    assert "$value" in rule.annotations["description"]
    assert rule.annotations["runbook_url"] == f"docs/operations.md#{rule.name.lower()}"


def test_the_runbook_has_a_section_for_each_alert() -> None:
    headings = re.findall(r"^#+ (.+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert {rule.name for rule in ALERTS} <= set(headings)


def test_the_age_that_alerts_is_the_age_at_which_status_complains() -> None:
    [rule] = [rule for rule in ALERTS if rule.name == "RecjobNoPublishedRun"]
    assert f"> {Settings().status.stale_hours:g} * 3600" in rule.expression


def test_the_retry_pause_that_an_alert_waits_out_is_longer_than_those_of_the_schedule() -> None:
    schedule = Settings().schedule
    longest = schedule.backoff_seconds * schedule.backoff_factor ** (schedule.retries - 1)
    groups = read_yaml(RULES / "alerts.yml")["groups"]
    waits = {
        rule["alert"]: rule["for"]
        for group in groups
        for rule in group["rules"]
        if rule["alert"] in ("RecjobJobFailed", "RecjobJobKilled")
    }
    assert set(waits) == {"RecjobJobFailed", "RecjobJobKilled"}
    for wait in waits.values():
        assert float(wait.removesuffix("m")) * 60 > longest


def test_prometheus_scrapes_the_scheduler_where_it_listens() -> None:
    jobs = {job["job_name"]: job for job in read_yaml(PROMETHEUS)["scrape_configs"]}
    [target] = jobs["recjob"]["static_configs"][0]["targets"]
    assert target == f"scheduler:{Settings().metrics.port}"
    # Else the label `job` of our metrics would be renamed, and no rule would find it.
    assert jobs["recjob"]["honor_labels"]
    assert jobs["pushgateway"]["honor_labels"]
    assert os.fspath(RULES.name) in read_yaml(PROMETHEUS)["rule_files"][0]
