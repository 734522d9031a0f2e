"""One look for all figures: light, colour-blind safe, and the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from recjob.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL_INCHES: Final = (4.6, 3.5)
"""Width and height of one panel of a plot."""
LEGEND_INCHES: Final = 0.45
"""Height that the legend takes under the panels."""
PLOT_DPI: Final = 200
"""Of plots of numbers: sharp at the width of a page, and small files."""

INK: Final = "#222222"
FAINT: Final = "#d9d9d9"

METHOD_STYLES: Final[dict[str, tuple[str, str]]] = {
    "BPR": ("#7f7f7f", "s"),
    "N-pair": ("#e69f00", "^"),
    "FND": ("#0072b2", "o"),
    "FND-CL": ("#d55e00", "D"),
    "Teacher": ("#009e73", "*"),
}
"""Colour and marker of each method, the same in every figure (Okabe and Ito's palette, whose
colours stay apart for the colour-blind; the markers tell them apart in grey)."""
OTHER_STYLES: Final = (("#cc79a7", "v"), ("#56b4e9", "P"), ("#f0e442", "X"))
"""For labels that are no method, in order of appearance."""

_STYLE: Final[Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.unicode_minus": True,
    "errorbar.capsize": 3,
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so every machine has it
    "font.size": 10,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "savefig.facecolor": "white",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

_MARGIN: Final = 0.12
"""Free share of the range above and below what a panel shows."""
_LEAST_RANGE: Final = 0.01
"""A panel of a metric in [0, 1] shows at least so much of it: noise should not fill it."""
_BAR_WIDTH: Final = 0.62
_PAD_INCHES: Final = 0.12
_MOST_TICKS: Final = 6


@dataclass(frozen=True)
class Series:
    """One line, or one set of bars."""

    label: str
    """A method of `METHOD_STYLES`, or any other name."""
    values: tuple[float, ...]
    """One for each place on the x axis; NaN leaves a gap."""
    deviations: tuple[float, ...]
    """Standard deviations over repeats; NaN or 0 where there is only one run."""


@dataclass(frozen=True)
class Reference:
    """A level to compare with: a dashed line across, and its deviation as a band."""

    label: str
    value: float
    deviation: float


@dataclass(frozen=True)
class Panel:
    """One metric."""

    title: str
    series: tuple[Series, ...]
    references: tuple[Reference, ...] = ()


@contextmanager
def drawing(
    path: Path, width_inches: float, height_inches: float, dpi: int = PLOT_DPI
) -> Iterator[Figure]:
    """An empty figure in our style; on leaving, it is written to `path` as PNG.

    The user's own matplotlib settings have no say, and the file holds no date and no version, so
    equal figures are equal bytes. Raises UserError where matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise missing_package(error) from None
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        figure = Figure(figsize=(width_inches, height_inches), dpi=dpi)
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None})


def missing_package(error: ModuleNotFoundError) -> UserError:
    """What to tell a person who lacks matplotlib or scikit-learn."""
    return UserError(
        f"the paper's figures need the package {error.name!r}; install the extra: "
        'pip install "recjob[paper]"'
    )


def plot_lines(
    path: Path,
    panels: Sequence[Panel],
    x: Sequence[float],
    x_names: Sequence[str],
    x_label: str,
    scale: Literal["linear", "log"] = "linear",
) -> None:
    """Lines over `x`, side by side for each metric.

    Args:
        path: the PNG to write.
        panels: at least one; they share the legend.
        x: `(n,)` places of the values, ascending.
        x_names: `(n,)` what is written at them; a name may have two lines.
        x_label: name of the x axis.
        scale: "log" where each place is a multiple of the one before.
    """
    with _panels(path, panels) as all_axes:
        for axes, panel in zip(all_axes, panels, strict=True):
            if scale == "log":
                axes.set_xscale("log")
            for number, series in enumerate(panel.series):
                colour, marker = _style(series.label, number)
                axes.errorbar(
                    x,
                    series.values,
                    yerr=_bars(series.deviations),
                    color=colour,
                    marker=marker,
                    markeredgecolor="white",
                    markeredgewidth=0.6,
                    label=series.label,
                    zorder=3,
                )
            axes.set_xticks(list(x), list(x_names))
            axes.set_xticks([], minor=True)
            axes.set_xlabel(x_label)


def plot_gains(path: Path, panels: Sequence[Panel], names: Sequence[str], x_label: str) -> None:
    """Bars that stand on (or hang from) the first reference, side by side for each metric.

    So the length of a bar is the gain over the reference, and the axis still shows the metric: bars
    that start at a cut axis would show differences larger than they are.

    Args:
        path: the PNG to write.
        panels: each with one series of `(n,)` values; without a reference (it was not run) the bars
            stand on the axis.
        names: `(n,)` names of the bars.
        x_label: name of the x axis.
    """
    places = range(len(names))
    with _panels(path, panels) as all_axes:
        for axes, panel in zip(all_axes, panels, strict=True):
            references = panel.references
            base = references[0].value if references else value_range(panel)[0]
            for number, series in enumerate(panel.series):
                colour, _ = _style(series.label, number)
                axes.bar(
                    places,
                    [value - base for value in series.values],
                    _BAR_WIDTH,
                    bottom=base,
                    yerr=_bars(series.deviations),
                    color=colour,
                    ecolor=INK,
                    label=series.label,
                    zorder=3,
                )
            axes.set_xticks(list(places), list(names))
            axes.tick_params(axis="x", length=0)
            axes.set_xlabel(x_label)


@contextmanager
def _panels(path: Path, panels: Sequence[Panel]) -> Iterator[list[Axes]]:
    """Axes for each panel, to which titles, references, limits and the legend are added after."""
    width, height = PANEL_INCHES
    total = height + LEGEND_INCHES
    with drawing(path, width * len(panels), total) as figure:
        legend_share = LEGEND_INCHES / total
        figure.set_layout_engine(
            "constrained",
            rect=(0, legend_share, 1, 1 - legend_share),
            w_pad=_PAD_INCHES,
            h_pad=_PAD_INCHES,
        )
        all_axes = [figure.add_subplot(1, len(panels), i + 1) for i in range(len(panels))]
        yield all_axes
        for axes, panel in zip(all_axes, panels, strict=True):
            axes.set_title(panel.title)
            for number, reference in enumerate(panel.references):
                _draw_reference(axes, reference, len(panel.series) + number)
            axes.set_ylim(*value_range(panel))
            axes.locator_params(axis="y", nbins=_MOST_TICKS, steps=[1, 2, 5, 10])
        handles, labels = all_axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(labels))


def _draw_reference(axes: Axes, reference: Reference, number: int) -> None:
    colour, _ = _style(reference.label, number)
    axes.axhline(
        reference.value, color=colour, linestyle=(0, (5, 2)), linewidth=1.5, label=reference.label
    )
    if reference.deviation > 0:
        low, high = reference.value - reference.deviation, reference.value + reference.deviation
        axes.axhspan(low, high, color=colour, alpha=0.12, linewidth=0)


def value_range(panel: Panel) -> tuple[float, float]:
    """Lower and upper end of the y axis: everything that is shown, deviations too, and a margin."""
    shown = [
        (value, deviation)
        for series in panel.series
        for value, deviation in zip(series.values, series.deviations, strict=True)
    ] + [(reference.value, reference.deviation) for reference in panel.references]
    real = [(v, d if d == d else 0.0) for v, d in shown if v == v]  # NaN is not itself
    low = min(value - deviation for value, deviation in real)
    high = max(value + deviation for value, deviation in real)
    missing = max(0.0, _LEAST_RANGE - (high - low)) / 2
    low, high = low - missing, high + missing
    margin = _MARGIN * (high - low)
    return low - margin, high + margin


def _bars(deviations: Sequence[float]) -> list[float] | None:
    """Lengths of the error bars; None where no point has one."""
    return list(deviations) if any(deviation > 0 for deviation in deviations) else None


def _style(label: str, number: int) -> tuple[str, str]:
    return METHOD_STYLES.get(label) or OTHER_STYLES[number % len(OTHER_STYLES)]
