"""The gate's decision by table: what was measured, what the settings allow, what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from recjob.jobs.gate_checks import (
    Beside,
    Lead,
    Measurements,
    decide,
    failed,
    reason_of,
)
from recjob.settings import GateSettings

SETTINGS = GateSettings(
    max_auc_loss=0.01,
    min_popularity_lead=0.02,
    max_cold_start_loss=0.03,
    max_coverage_loss=0.5,
    max_agreement_loss=0.1,
    max_latency_factor=1.5,
)
TOLERANCE = 1e-3
GOOD = Measurements(
    auc=Lead(0.8, 0.8, -0.005),
    popularity=Lead(0.8, 0.7, 0.08),
    cold_start=Beside(0.6, 0.6),
    coverage=Beside(0.3, 0.3),
    agreement=Beside(0.7, 0.7),
    engine_difference=1e-5,
    latency_seconds=Beside(0.2, 0.2),
)
NAN = float("nan")


def test_a_good_one_passes_every_check() -> None:
    checks = decide(GOOD, SETTINGS, TOLERANCE)
    assert [check.name for check in checks] == [
        "auc",
        "popularity",
        "cold-start",
        "coverage",
        "agreement",
        "engines",
        "latency",
    ]
    assert all(check.passed is True for check in checks)
    assert failed(checks) == ()
    assert reason_of(checks) == ""


@pytest.mark.parametrize(
    ("name", "field", "value", "passed"),
    [
        # The interval decides, not the mean.
        ("auc", "auc", Lead(0.9, 0.8, -0.02), False),
        ("auc", "auc", Lead(0.795, 0.8, -0.01), True),
        ("auc", "auc", Lead(0.795, 0.8, -0.0101), False),
        ("auc", "auc", Lead(0.8, 0.8, NAN), False),
        ("popularity", "popularity", Lead(0.8, 0.7, 0.02), False),  # must lie above
        ("popularity", "popularity", Lead(0.8, 0.7, 0.0201), True),
        ("popularity", "popularity", Lead(0.8, 0.7, NAN), False),
        ("cold-start", "cold_start", Beside(0.5, 0.525), True),
        ("cold-start", "cold_start", Beside(0.5, 0.535), False),
        ("cold-start", "cold_start", Beside(NAN, 0.5), False),
        ("coverage", "coverage", Beside(0.15, 0.3), True),
        ("coverage", "coverage", Beside(0.14, 0.3), False),
        ("coverage", "coverage", Beside(0.0, 0.0), True),
        ("agreement", "agreement", Beside(0.61, 0.7), True),
        ("agreement", "agreement", Beside(0.59, 0.7), False),
        ("engines", "engine_difference", 1e-3, True),
        ("engines", "engine_difference", 1.1e-3, False),
        ("engines", "engine_difference", NAN, False),
        ("latency", "latency_seconds", Beside(0.3, 0.2), True),
        ("latency", "latency_seconds", Beside(0.31, 0.2), False),
    ],
)
def test_each_limit(name: str, field: str, value: Any, passed: bool) -> None:
    checks = decide(replace(GOOD, **{field: value}), SETTINGS, TOLERANCE)
    [own] = [check for check in checks if check.name == name]
    assert own.passed is passed
    assert [check.name for check in failed(checks)] == ([] if passed else [name])


def test_better_in_everything_passes() -> None:
    better = Measurements(
        auc=Lead(0.9, 0.8, 0.05),
        popularity=Lead(0.9, 0.7, 0.15),
        cold_start=Beside(0.7, 0.6),
        coverage=Beside(0.9, 0.3),
        agreement=Beside(0.9, 0.7),
        engine_difference=0.0,
        latency_seconds=Beside(0.1, 0.2),
    )
    assert not failed(decide(better, SETTINGS, TOLERANCE))


def test_what_was_not_measured_fails_nothing_and_says_why() -> None:
    first = Measurements(
        auc="no active one",
        popularity=GOOD.popularity,
        cold_start="no newcomers",
        coverage="no active one",
        agreement="no active one",
        engine_difference="not compiled",
        latency_seconds="no active one",
    )
    checks = {check.name: check for check in decide(first, SETTINGS, TOLERANCE)}
    assert checks["popularity"].passed is True
    for name in ("auc", "cold-start", "coverage", "agreement", "engines", "latency"):
        assert checks[name].passed is None
    assert checks["cold-start"].meaning == "not measured: no newcomers"
    assert checks["cold-start"].sentence == "cold-start: not measured: no newcomers"


def test_the_reason_is_one_line_with_the_numbers_of_all_that_failed() -> None:
    bad = replace(GOOD, auc=Lead(0.61, 0.8, -0.2134), latency_seconds=Beside(0.5, 0.25))
    reason = reason_of(decide(bad, SETTINGS, TOLERANCE))
    assert reason == (
        "auc: the lower end of the difference to the active student must not be below -0.01, and "
        "is -0.2134 (0.61 beside 0.8); latency: a batch of pictures must not take more times as "
        "long as the active student's than 1.5, and is 2 (0.5 beside 0.25)"
    )
