import logging

import pytest

from recjob.jobs.distill import warn_of_scale


@pytest.mark.parametrize(("mean_d", "word"), [(0.2, "less"), (3.5, "harder")])
def test_a_mean_d_far_from_one_is_told(
    mean_d: float, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_scale({"final_mean_d": mean_d, "teacher_gap": 0.23})
    assert f"mean d is {mean_d:.2f}" in caplog.text
    assert word in caplog.text


@pytest.mark.parametrize("notes", [{"final_mean_d": 1.1, "teacher_gap": 0.2}, {}])
def test_a_usual_mean_d_and_other_losses_are_not(
    notes: dict[str, float], caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_scale(notes)
    assert not caplog.text
