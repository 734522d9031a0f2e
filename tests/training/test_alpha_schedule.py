import math

import pytest

from recjob.training.alpha_schedule import AlphaSchedule, alpha_factor


def test_constant_is_alpha_itself() -> None:
    assert [alpha_factor("constant", 0.3, step, 4) for step in range(4)] == [1, 1, 1, 1]


def test_linear_is_a_straight_line() -> None:
    factors = [alpha_factor("linear", 0.2, step, 5) for step in range(5)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [alpha_factor("linear", 3.0, step, 3) for step in range(3)] == pytest.approx([3, 2, 1])


def test_cosine_is_half_a_wave() -> None:
    factors = [alpha_factor("cosine", 0.0001, step, 5) for step in range(5)]
    half = math.sqrt(0.5) / 2
    assert factors == pytest.approx([0, 0.5 - half, 0.5, 0.5 + half, 1], abs=1e-4)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("start", [0.25, 1.0, 4.0])
def test_both_ends_and_one_direction(kind: AlphaSchedule, start: float) -> None:
    factors = [alpha_factor(kind, start, step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(start)
    assert factors[-1] == pytest.approx(1)
    assert sorted(factors, reverse=start > 1) == pytest.approx(factors)


def test_a_training_of_one_step_and_one_that_goes_on() -> None:
    assert alpha_factor("linear", 0.5, 0, 1) == 1
    assert alpha_factor("cosine", 0.5, 9, 4) == 1
