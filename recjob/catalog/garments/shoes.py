"""The cuts of shoes, in the unit square (y grows downwards)."""

from __future__ import annotations

from collections.abc import Callable

from recjob.catalog.garments.canvas import Canvas, Colour, Cut, Point, contrast, path, shade

_CREAM: Colour = (246, 243, 234)
_METAL: Colour = (190, 190, 196)
_SOLE: Colour = (240, 238, 232)
_RUBBER: Colour = (52, 46, 44)


def _pair(
    draw: Callable[[Canvas, Cut, Callable[[list[Point]], list[Point]]], None],
) -> Callable[[Canvas, Cut], None]:
    """Shoes come in pairs: the same shoe twice, one a little behind the other."""

    def both(canvas: Canvas, cut: Cut) -> None:
        for dx, dy, scale in ((0.10, -0.105, 0.80), (-0.03, 0.075, 0.86)):

            def place(
                points: list[Point], dx: float = dx, dy: float = dy, scale: float = scale
            ) -> list[Point]:
                return [
                    (0.5 + dx + (x - 0.5) * scale, 0.5 + dy + (y - 0.5) * scale) for x, y in points
                ]

            draw(canvas, cut, place)

    both.__doc__ = draw.__doc__
    return both


@_pair
def sneaker(canvas: Canvas, cut: Cut, place: Callable[[list[Point]], list[Point]]) -> None:
    """Laces and a light rubber sole."""
    collar = 0.34 - 0.07 * max(0.0, cut.length)
    sole = path(
        (0.07, 0.64),
        (0.93, 0.66),
        (0.97, 0.70, 0.92, 0.755),
        (0.10, 0.755),
        (0.05, 0.72, 0.07, 0.64),
    )
    canvas.flat(
        place(path((0.10, collar + 0.01), (0.2, collar - 0.05, 0.34, collar + 0.02), (0.2, 0.45))),
        shade(canvas.colour, 0.4),
    )
    upper = path(
        (0.09, 0.66),
        (0.06, 0.50, 0.10, collar),
        (0.16, collar + 0.08, 0.36, collar + 0.02),
        (0.50, 0.47, 0.64, 0.50),
        (0.90, 0.52, 0.93, 0.67),
    )
    canvas.cloth(place(upper))
    canvas.cloth(place(sole), _SOLE)
    canvas.line(place([(0.08, 0.705), (0.94, 0.712)]), shade(canvas.colour, 0.8), 0.008)
    toe = path((0.76, 0.665), (0.77, 0.56, 0.83, 0.54), (0.92, 0.56, 0.935, 0.668))
    canvas.cloth(place(toe), _SOLE if cut.detail > 0 else shade(canvas.colour, 0.8))
    lace = _CREAM if sum(canvas.colour) < 560 else shade(canvas.colour, 0.5)
    for step in range(4):
        x = 0.39 + 0.065 * step
        y = collar + 0.055 + (0.50 - collar - 0.04) * step / 3.6
        canvas.line(place([(x - 0.02, y + 0.075), (x + 0.035, y)]), lace, 0.017)
    canvas.line(place(path((0.20, 0.645), (0.33, 0.56, 0.41, 0.645))), lace, 0.016)


@_pair
def boot(canvas: Canvas, cut: Cut, place: Callable[[list[Point]], list[Point]]) -> None:
    """A high shaft and a dark sole with a heel."""
    top = 0.14 - 0.06 * cut.length
    upper = path(
        (0.15, 0.76),
        (0.13, 0.6, 0.16, 0.48),
        (0.14, 0.3, 0.13, top),
        (0.48, top),
        (0.47, 0.35, 0.50, 0.50),
        (0.82, 0.54, 0.86, 0.76),
    )
    canvas.cloth(place(upper))
    sole = path(
        (0.14, 0.755),
        (0.87, 0.755),
        (0.88, 0.81),
        (0.44, 0.81),
        (0.40, 0.80),
        (0.39, 0.87),
        (0.14, 0.87),
    )
    canvas.cloth(place(sole), _RUBBER)
    canvas.line(
        place([(0.135, top + 0.045), (0.478, top + 0.045)]), shade(canvas.colour, 0.6), 0.01
    )
    if cut.detail > 0:
        lace = contrast(canvas.colour)
        for step in range(4):
            y = top + 0.13 + 0.075 * step
            canvas.line(place([(0.36, y), (0.475, y + 0.03)]), lace, 0.014)
    else:
        gore = path((0.24, top + 0.06), (0.38, top + 0.06), (0.36, 0.5), (0.31, 0.55, 0.27, 0.5))
        canvas.flat(place(gore), shade(canvas.colour, 0.6))


@_pair
def heel(canvas: Canvas, cut: Cut, place: Callable[[list[Point]], list[Point]]) -> None:
    """A pump on a thin heel."""
    lift = 0.30 - 0.06 * cut.length
    stiletto = [(0.11, lift + 0.22), (0.22, lift + 0.26), (0.165, 0.80), (0.125, 0.80)]
    canvas.cloth(place(stiletto), shade(canvas.colour, 0.7))
    canvas.flat(
        place(
            path(
                (0.10, lift + 0.02),
                (0.30, lift + 0.22, 0.70, 0.64),
                (0.45, 0.66),
                (0.15, lift + 0.14),
            )
        ),
        shade(canvas.colour, 0.45),
    )
    upper = path(
        (0.085, lift),
        (0.05, lift + 0.20, 0.12, lift + 0.25),
        (0.34, lift + 0.26, 0.50, 0.70),
        (0.62, 0.80, 0.93, 0.795),
        (0.93, 0.72, 0.70, 0.615),
        (0.40, 0.68, 0.085, lift),
    )
    canvas.cloth(place(upper))
    canvas.line(
        place(path((0.12, lift + 0.25), (0.34, lift + 0.27, 0.50, 0.71), (0.62, 0.81, 0.93, 0.80))),
        _RUBBER,
        0.012,
    )
    if cut.detail > 0:
        canvas.disc(place([(0.70, 0.655)])[0], 0.028, shade(canvas.colour, 1.5))


@_pair
def loafer(canvas: Canvas, cut: Cut, place: Callable[[list[Point]], list[Point]]) -> None:
    """Low, with a strap over the instep."""
    canvas.flat(
        place(path((0.10, 0.46), (0.3, 0.40, 0.47, 0.47), (0.3, 0.60))), shade(canvas.colour, 0.4)
    )
    upper = path(
        (0.09, 0.70),
        (0.06, 0.56, 0.09, 0.45),
        (0.22, 0.57, 0.40, 0.52),
        (0.46, 0.44, 0.54, 0.46),
        (0.88, 0.52, 0.93, 0.70),
    )
    canvas.cloth(place(upper))
    sole = path(
        (0.08, 0.695), (0.94, 0.695), (0.945, 0.735), (0.40, 0.735), (0.36, 0.775), (0.09, 0.775)
    )
    canvas.cloth(place(sole), _RUBBER)
    seam = path((0.60, 0.69), (0.62, 0.57, 0.70, 0.545), (0.84, 0.56, 0.87, 0.63))
    canvas.line(place(seam), shade(canvas.colour, 0.55), 0.009)
    strap = path((0.47, 0.475), (0.60, 0.485), (0.54, 0.68), (0.40, 0.68))
    canvas.cloth(place(strap), shade(canvas.colour, 0.75))
    if cut.detail > 0:
        canvas.line(place([(0.475, 0.57), (0.56, 0.575)]), _METAL, 0.02)


@_pair
def sandal(canvas: Canvas, cut: Cut, place: Callable[[list[Point]], list[Point]]) -> None:
    """Straps over a flat sole."""
    sole = path(
        (0.07, 0.66),
        (0.5, 0.70),
        (0.93, 0.665),
        (0.97, 0.69, 0.93, 0.745),
        (0.5, 0.78),
        (0.08, 0.75),
        (0.04, 0.70, 0.07, 0.66),
    )
    straps = [
        path((0.13, 0.68), (0.07, 0.56, 0.10, 0.45)),
        path((0.46, 0.71), (0.47, 0.52, 0.38, 0.46)),
        path((0.10, 0.45), (0.24, 0.36, 0.40, 0.47)),
        path((0.52, 0.70), (0.60, 0.55, 0.84, 0.69)),
        path((0.60, 0.70), (0.80, 0.51, 0.90, 0.68)),
    ]
    for colour, width in ((shade(canvas.colour, 0.55), 0.062), (canvas.colour, 0.05)):
        for strap in straps:
            canvas.line(place(strap), colour, width)
    canvas.cloth(place(sole), (196, 158, 112) if cut.detail > 0 else _RUBBER)
    canvas.disc(place([(0.39, 0.47)])[0], 0.02, _METAL)
