"""The look of the plots as far as numbers tell: places, ranges, bytes."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from PIL import Image

from recjob.errors import UserError
from recjob.paper.plots import (
    PANEL_INCHES,
    PLOT_DPI,
    Panel,
    Reference,
    Series,
    drawing,
    plot_gains,
    plot_lines,
    value_range,
)

NAN = math.nan
LINE = Series("FND", (0.86, NAN, 0.88), (0.004, NAN, NAN))
PANELS = [
    Panel("AUC", (LINE,), (Reference("N-pair", 0.87, 0.002), Reference("BPR", 0.84, 0.0))),
    Panel("NDCG", (LINE,), (Reference("N-pair", 0.87, 0.0),)),
]


def lines(path: Path) -> None:
    plot_lines(path, PANELS, [0.5, 1, 2], ["0.5\n2.1", "1\n4.2", "2\n8.4"], "α", scale="log")


def gains(path: Path) -> None:
    plot_gains(path, [*PANELS, Panel("none", (LINE,))], ["IE", "EE", "RR"], "pair")


@pytest.mark.parametrize(("draw", "n_panels"), [(lines, 2), (gains, 3)])
def test_a_plot_is_a_picture_and_the_same_bytes_again(
    draw: Callable[[Path], None], n_panels: int, tmp_path: Path
) -> None:
    draw(tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):  # the user's own
        draw(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == round(PANEL_INCHES[0] * n_panels * PLOT_DPI)
        assert picture.info.keys() == {"dpi"}  # no date, no version
        corner = picture.convert("RGB").getpixel((0, 0))
    assert corner == (255, 255, 255)


def test_settings_of_matplotlib_stay_as_they_were(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    with drawing(tmp_path / "a.png", 1, 1):
        pass
    assert dict(matplotlib.rcParams) == before


def test_the_range_holds_everything_and_does_not_blow_up_noise() -> None:
    low, high = value_range(PANELS[0])
    assert low < 0.84
    assert high > 0.88
    assert high - low < 0.06
    low, high = value_range(Panel("AUC", (Series("FND", (0.9, 0.9001), (NAN, 0.0)),)))
    assert high - low == pytest.approx(0.01 * 1.24)
    assert (low + high) / 2 == pytest.approx(0.90005)


def test_bars_stand_on_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    drawn: list[tuple[Any, Any]] = []
    real = Axes.bar

    def bar(self: Axes, x: Any, height: Any, *args: Any, **options: Any) -> Any:
        drawn.append((height, options["bottom"]))
        return real(self, x, height, *args, **options)

    monkeypatch.setattr(Axes, "bar", bar)
    gains(tmp_path / "a.png")
    heights, bottom = drawn[0]
    assert bottom == 0.87
    assert heights[0] == pytest.approx(-0.01)
    assert heights[2] == pytest.approx(0.01)


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **options: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"recjob\[paper\]") as caught:
        lines(tmp_path / "a.png")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.png").exists()
