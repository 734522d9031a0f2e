"""Two models on the same stored lists, user by user."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from recjob.errors import NotFoundError, UserError
from recjob.jobs.compare import compare
from recjob.jobs.evaluate import EvaluateResult
from tests.command_line import Run
from tests.fixtures_shop import Shop


def test_student_and_teacher(shop: Shop, command: Run) -> None:
    result = shop.run("compare", partial(compare, first="student", second="teacher"))
    evaluated = shop.results["evaluate"]
    assert isinstance(evaluated, EvaluateResult)
    assert (result.a, result.b) == (evaluated.student, evaluated.teacher)
    assert (result.users, result.positives) == (evaluated.users, evaluated.positives)
    student, teacher, *_ = evaluated.quality
    for row in result.differences:
        assert row.mean_a == pytest.approx(getattr(student, row.metric))
        assert row.mean_b == pytest.approx(getattr(teacher, row.metric))
        assert row.difference == pytest.approx(row.mean_a - row.mean_b)
        assert row.interval is not None
        assert row.interval[0] <= row.difference <= row.interval[1]
        assert 0 < row.p_value <= 1
        assert row.better + row.worse + row.equal == pytest.approx(1)

    # The same by ids, from the command line.
    options: dict[str, Any] = {"folder": shop.folder, "variables": shop.variables}
    value = command("compare", result.a, result.b, "--json", **options).json
    assert value["differences"] == json.loads(result.model_dump_json())["differences"]
    for_people = command("compare", "teacher", "teacher", **options)
    assert for_people.code == 0
    assert "100.0%" in for_people.out


def test_models_that_cannot_be_compared(shop: Shop) -> None:
    with pytest.raises(NotFoundError, match=r"no model 'nobody'; `python cli.py models list`"):
        shop.run("compare", partial(compare, first="student", second="nobody"))
    [(autoencoder,)] = shop.rows("SELECT model_id FROM model WHERE role = 'autoencoder'")
    with pytest.raises(UserError, match="is an autoencoder, which ranks nothing"):
        shop.run("compare", partial(compare, first=autoencoder, second="student"))
