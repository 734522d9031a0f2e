"""The cuts of tops, in the unit square (y grows downwards)."""

from __future__ import annotations

from recjob.catalog.garments.canvas import (
    Canvas,
    Colour,
    Cut,
    Point,
    contrast,
    mirrored,
    path,
    shade,
    whole,
)

_CREAM: Colour = (246, 243, 234)
_METAL: Colour = (190, 190, 196)


def _neck(canvas: Canvas, depth: float, width: float = 0.10) -> None:
    """The inside of the back, seen through the neck opening, and a ribbed band around it."""
    inside = path((0.5 - width, 0.13), (0.5, 0.165, 0.5 + width, 0.13))
    front = path((0.5 + width, 0.13), (0.5 + 0.85 * width, depth, 0.5, depth))
    front += reversed(mirrored(front))
    canvas.flat([*inside, *front], shade(canvas.colour, 0.45))
    canvas.line(front, shade(canvas.colour, 0.72), 0.016)


def _sleeves(canvas: Canvas, cut: Cut, cuffs: bool) -> None:
    spread = 0.03 * cut.width
    sleeve = path(
        (0.69, 0.165),
        (0.80, 0.18, 0.85 + spread, 0.40),
        (0.90 + spread, 0.80),
        (0.79 + spread, 0.83),
        (0.74, 0.56, 0.69, 0.40),
    )
    for side in (sleeve, mirrored(sleeve)):
        canvas.cloth(side)
    if cuffs:
        cuff = [
            (0.893 + spread, 0.755),
            (0.905 + spread, 0.82),
            (0.79 + spread, 0.85),
            (0.778 + spread, 0.785),
        ]
        for side in (cuff, mirrored(cuff)):
            canvas.cloth(side, shade(canvas.colour, 0.85))


def _body(canvas: Canvas, cut: Cut, bottom: float, flare: float = 0.0) -> float:
    hem = bottom + 0.035 * cut.length
    side = 0.70 + 0.025 * cut.width
    half = path(
        (0.5, 0.20),
        (0.585, 0.20, 0.60, 0.125),
        (0.735, 0.17),
        (0.725, 0.30, side, 0.42),
        (side - 0.005, 0.6, side + 0.005 + flare, hem),
        (0.6, hem + 0.015, 0.5, hem + 0.015),
    )
    canvas.cloth(whole(half))
    return hem


def t_shirt(canvas: Canvas, cut: Cut) -> None:
    """Short sleeves and a round neck."""
    end = 0.40 + 0.05 * cut.detail
    sleeve = path(
        (0.66, 0.145),
        (0.76, 0.16, 0.80, 0.20),
        (0.93, end - 0.02),
        (0.80, end + 0.06),
        (0.70, 0.35),
    )
    for side in (sleeve, mirrored(sleeve)):
        canvas.cloth(side)
        canvas.line(
            [_between(side[-2], side[-1], 0.13), _between(side[-3], side[-4], 0.13)],
            shade(canvas.colour, 0.7),
        )
    hem = _body(canvas, cut, 0.86)
    _neck(canvas, 0.215)
    canvas.line([(0.30, hem - 0.02), (0.70, hem - 0.02)], shade(canvas.colour, 0.75))


def tank_top(canvas: Canvas, cut: Cut) -> None:
    """Straps and no sleeves."""
    hem = 0.85 + 0.04 * cut.length
    side = 0.685 + 0.03 * cut.width
    neck = 0.31 + 0.05 * cut.detail
    back = path(
        (0.5, 0.24),
        (0.58, 0.24, 0.60, 0.12),
        (0.655, 0.12),
        (0.64, 0.30, side, 0.38),
        (0.5, 0.42),
    )
    canvas.flat(whole(back), shade(canvas.colour, 0.5))
    half = path(
        (0.5, neck),
        (0.59, neck, 0.605, 0.12),
        (0.66, 0.12),
        (0.645, 0.32, side, 0.39),
        (side - 0.02, 0.6, side + 0.02, hem),
        (0.6, hem + 0.02, 0.5, hem + 0.02),
    )
    canvas.cloth(whole(half))
    rim = shade(canvas.colour, 0.72)
    front = path((0.5, neck), (0.59, neck, 0.605, 0.12))
    canvas.line([*reversed(mirrored(front)), *front], rim, 0.014)
    arm = path((0.66, 0.12), (0.645, 0.32, side, 0.39))
    for line in (arm, mirrored(arm)):
        canvas.line(line, rim, 0.014)


def shirt(canvas: Canvas, cut: Cut) -> None:
    """Long sleeves, a collar and a row of buttons."""
    _sleeves(canvas, cut, cuffs=True)
    hem = _body(canvas, cut, 0.88)
    canvas.flat(path((0.41, 0.12), (0.5, 0.16, 0.59, 0.12), (0.5, 0.26)), shade(canvas.colour, 0.4))
    seam = contrast(canvas.colour)
    for x in (0.472, 0.528):
        canvas.line([(x, 0.25), (x, hem)], shade(canvas.colour, 0.7), 0.005)
    flap = path(
        (0.595, 0.105), (0.64, 0.16), (0.585, 0.275), (0.5, 0.235), (0.56, 0.19, 0.595, 0.105)
    )
    for side in (flap, mirrored(flap)):
        canvas.cloth(side)
    for step in range(6):
        canvas.disc((0.5, 0.29 + step * (hem - 0.33) / 5), 0.011, seam)
    if cut.detail > 0:
        pocket = [(0.565, 0.36), (0.655, 0.36), (0.655, 0.45), (0.61, 0.475), (0.565, 0.45)]
        canvas.cloth(pocket)


def sweater(canvas: Canvas, cut: Cut) -> None:
    """Long sleeves, ribbed cuffs and hem, a round or a pointed neck."""
    _sleeves(canvas, cut, cuffs=True)
    hem = _body(canvas, cut, 0.82)
    side = 0.70 + 0.025 * cut.width
    band = [(1 - side, hem - 0.02), (side, hem - 0.02), (side - 0.02, hem + 0.05)]
    canvas.cloth([*band, (1.02 - side, hem + 0.05)], shade(canvas.colour, 0.85))
    rib = shade(canvas.colour, 0.66)
    for step in range(1, 16):
        x = 1 - side + step * (2 * side - 1) / 16
        canvas.line([(x, hem - 0.012), (x, hem + 0.045)], rib, 0.005)
    if cut.detail > 0:
        _neck(canvas, 0.22, 0.095)
    else:
        front = path((0.595, 0.125), (0.5, 0.31))
        opening = [*path((0.405, 0.125), (0.5, 0.16, 0.595, 0.125)), *front]
        canvas.flat([*opening, *reversed(mirrored(front))], shade(canvas.colour, 0.45))
        canvas.line([*front, *reversed(mirrored(front))], shade(canvas.colour, 0.78), 0.02)


def hoodie(canvas: Canvas, cut: Cut) -> None:
    """A hood with strings and a pocket in front."""
    _sleeves(canvas, cut, cuffs=True)
    hem = _body(canvas, cut, 0.83)
    side = 0.70 + 0.025 * cut.width
    band = [(1 - side, hem - 0.02), (side, hem - 0.02), (side - 0.02, hem + 0.05)]
    canvas.cloth([*band, (1.02 - side, hem + 0.05)], shade(canvas.colour, 0.85))
    hood = path(
        (0.5, 0.30),
        (0.60, 0.28, 0.675, 0.17),
        (0.66, 0.03, 0.5, 0.025),
    )
    canvas.cloth(whole(hood))
    opening = path((0.5, 0.27), (0.575, 0.23, 0.60, 0.16), (0.58, 0.075, 0.5, 0.07))
    canvas.flat(whole(opening), shade(canvas.colour, 0.42))
    string = _CREAM if sum(canvas.colour) < 600 else shade(canvas.colour, 0.5)
    for x, end in ((0.455, 0.43), (0.545, 0.40 + 0.03 * cut.detail)):
        canvas.line([(x, 0.265), (x - 0.004, end)], string, 0.012)
    pocket = path(
        (0.5, 0.585), (0.60, 0.585), (0.665, 0.69), (0.665, hem - 0.03), (0.5, hem - 0.03)
    )
    canvas.cloth(whole(pocket))


def jacket(canvas: Canvas, cut: Cut) -> None:
    """Short, with a zip, a stand-up collar and a ribbed hem."""
    _sleeves(canvas, cut, cuffs=True)
    hem = _body(canvas, cut, 0.78)
    side = 0.70 + 0.025 * cut.width
    dark = shade(canvas.colour, 0.6)
    band = [(1 - side, hem - 0.03), (side, hem - 0.03), (side - 0.015, hem + 0.05)]
    canvas.cloth([*band, (1.015 - side, hem + 0.05)], dark)
    canvas.flat(
        path((0.405, 0.085), (0.5, 0.12, 0.595, 0.085), (0.575, 0.20), (0.5, 0.30), (0.425, 0.20)),
        shade(canvas.colour, 0.35),
    )
    collar = path(
        (0.60, 0.085), (0.63, 0.15), (0.515, 0.30), (0.5, 0.27), (0.575, 0.19, 0.60, 0.085)
    )
    for flap in (collar, mirrored(collar)):
        canvas.cloth(flap, dark)
    canvas.line([(0.5, 0.27), (0.5, hem + 0.05)], shade(canvas.colour, 0.35), 0.024)
    canvas.line([(0.5, 0.28), (0.5, hem + 0.04)], _METAL, 0.009)
    for sign in (-1, 1):
        canvas.line([(0.5 + sign * 0.09, 0.56), (0.5 + sign * 0.15, 0.68)], _METAL, 0.010)


def coat(canvas: Canvas, cut: Cut) -> None:
    """Long, with lapels and large buttons."""
    _sleeves(canvas, cut, cuffs=False)
    hem = _body(canvas, cut, 0.93, flare=0.045)
    canvas.flat(
        path((0.41, 0.11), (0.5, 0.15, 0.59, 0.11), (0.5, 0.43)), shade(canvas.colour, 0.35)
    )
    lapel = [
        (0.59, 0.105),
        (0.645, 0.155),
        (0.675, 0.245),
        (0.615, 0.255),
        (0.5, 0.44),
        (0.535, 0.28),
    ]
    for flap in (lapel, mirrored(lapel)):
        canvas.cloth(flap)
    seam = shade(canvas.colour, 0.5)
    canvas.line([(0.525, 0.42), (0.535, hem)], seam, 0.008)
    button = contrast(canvas.colour)
    for step in range(3):
        canvas.disc((0.475, 0.49 + 0.11 * step), 0.016, button)
        if cut.detail > 0:
            canvas.disc((0.58, 0.49 + 0.11 * step), 0.016, button)
    for sign in (-1, 1):
        pocket = [
            (0.5 + sign * 0.10, 0.66),
            (0.5 + sign * 0.19, 0.645),
            (0.5 + sign * 0.19, 0.675),
            (0.5 + sign * 0.10, 0.69),
        ]
        canvas.cloth(pocket)


def _between(start: Point, end: Point, share: float) -> Point:
    return (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
