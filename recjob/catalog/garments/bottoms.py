"""The cuts of trousers and skirts, in the unit square (y grows downwards)."""

from __future__ import annotations

from recjob.catalog.garments.canvas import (
    Canvas,
    Colour,
    Cut,
    contrast,
    mirrored,
    path,
    shade,
    whole,
)

_STITCH: Colour = (214, 150, 70)


def _legs(canvas: Canvas, cut: Cut, bottom: float, hem: float, gap: float) -> None:
    """Two legs from the waist to `bottom`, `hem` wide and `gap` apart there."""
    inner = 0.5 + gap / 2
    half = path(
        (0.5, 0.075),
        (0.62, 0.07),
        (0.665 + 0.015 * cut.width, 0.17, 0.67 + 0.015 * cut.width, 0.30),
        (inner + hem, bottom),
        (inner, bottom + 0.008),
        (0.5, 0.37),
    )
    canvas.cloth(whole(half))
    canvas.line(path((0.5, 0.13), (0.505, 0.25, 0.5, 0.37)), shade(canvas.colour, 0.6))


def _waistband(canvas: Canvas, colour: Colour, left: float = 0.378) -> None:
    band = path(
        (left, 0.068),
        (0.5, 0.082, 1 - left, 0.068),
        (1.006 - left, 0.125),
        (0.5, 0.14, left - 0.006, 0.125),
    )
    canvas.cloth(band, colour)


def trousers(canvas: Canvas, cut: Cut) -> None:
    """Pressed, with a crease along each leg."""
    hem = 0.115 + 0.025 * cut.width
    _legs(canvas, cut, 0.935, hem, 0.08)
    for crease in (path((0.59, 0.20), (0.60, 0.5, 0.54 + hem / 2, 0.92)),):
        for line in (crease, mirrored(crease)):
            canvas.line(line, shade(canvas.colour, 0.72), 0.007)
    _waistband(canvas, shade(canvas.colour, 0.9))
    canvas.disc((0.5, 0.107), 0.010, contrast(canvas.colour))
    pocket = path((0.61, 0.135), (0.625, 0.19, 0.662, 0.215))
    for line in (pocket, mirrored(pocket)):
        canvas.line(line, shade(canvas.colour, 0.6))


def jeans(canvas: Canvas, cut: Cut) -> None:
    """Stitched pockets, a worn place on each thigh."""
    hem = 0.125 + 0.035 * cut.width
    _legs(canvas, cut, 0.935, hem, 0.055)
    _waistband(canvas, shade(canvas.colour, 0.88))
    for sign in (-1, 1):
        for step in range(5):  # lighter and smaller ovals: faded denim
            grow = 1 - step / 5
            centre, tone = (0.5 + sign * 0.095, 0.45), shade(canvas.colour, 1.05 + 0.04 * step)
            oval = path(
                (centre[0] - 0.035 * grow, centre[1]),
                (centre[0], centre[1] - 0.26 * grow, centre[0] + 0.035 * grow, centre[1]),
                (centre[0], centre[1] + 0.26 * grow, centre[0] - 0.035 * grow, centre[1]),
            )
            canvas.flat(oval, tone)
    seams = [
        path((0.605, 0.14), (0.60, 0.205, 0.665, 0.205)),
        path((0.655, 0.21), (0.54 + hem * 0.93, 0.91)),
        path((0.53 + hem, 0.915), (0.53, 0.92)),
    ]
    for seam in seams:
        for line in (seam, mirrored(seam)):
            canvas.line(line, _STITCH, 0.006)
    canvas.line(path((0.535, 0.14), (0.535, 0.24, 0.505, 0.26)), _STITCH, 0.006)
    canvas.disc((0.5, 0.107), 0.012, _STITCH)


def shorts(canvas: Canvas, cut: Cut) -> None:
    """Legs that end above the knee."""
    bottom = 0.62 + 0.05 * cut.length
    half = path(
        (0.5, 0.175),
        (0.66, 0.17),
        (0.725, 0.30, 0.76 + 0.02 * cut.width, bottom),
        (0.535, bottom + 0.02),
        (0.5, 0.43),
    )
    canvas.cloth(whole(half))
    _band = path(
        (0.338, 0.165), (0.5, 0.18, 0.662, 0.165), (0.672, 0.225), (0.5, 0.24, 0.328, 0.225)
    )
    canvas.cloth(_band, shade(canvas.colour, 0.88))
    canvas.line(path((0.5, 0.24), (0.505, 0.34, 0.5, 0.43)), shade(canvas.colour, 0.6))
    edge = [(0.765, bottom - 0.035), (0.532, bottom - 0.015)]
    pocket = path((0.645, 0.24), (0.655, 0.31, 0.715, 0.33))
    for seam in (edge, pocket):
        for line in (seam, mirrored(seam)):
            canvas.line(line, shade(canvas.colour, 0.65))
    if cut.detail > 0:
        for x in (0.48, 0.52):
            canvas.line([(x, 0.215), (x + (x - 0.5) * 0.8, 0.34)], contrast(canvas.colour), 0.010)


def pencil_skirt(canvas: Canvas, cut: Cut) -> None:
    """Narrow, with a slit."""
    hem = 0.80 + 0.07 * cut.length
    half = path(
        (0.5, 0.135),
        (0.615, 0.13),
        (0.70, 0.24, 0.695, 0.42),
        (0.655, hem),
        (0.5, hem + 0.012),
    )
    canvas.cloth(whole(half))
    band = path((0.383, 0.125), (0.5, 0.14, 0.617, 0.125), (0.63, 0.185), (0.5, 0.20, 0.37, 0.185))
    canvas.cloth(band, shade(canvas.colour, 0.85))
    slit = 0.5 + 0.06 * cut.detail
    canvas.line([(slit, hem - 0.17), (slit, hem + 0.005)], shade(canvas.colour, 0.5), 0.009)
    dart = [(0.575, 0.20), (0.585, 0.30)]
    for line in (dart, mirrored(dart)):
        canvas.line(line, shade(canvas.colour, 0.65))


def flared_skirt(canvas: Canvas, cut: Cut) -> None:
    """Wide, with folds that open towards the hem."""
    hem = 0.74 + 0.08 * cut.length
    wide = 0.85 + 0.06 * cut.width
    waves = 3
    half = path((0.5, 0.175), (0.61, 0.17), (0.68, 0.32, wide, hem - 0.05))
    step = (wide - 0.5) / waves
    for wave in range(waves):
        right = wide - wave * step
        drop = hem - 0.05 * (right - step - 0.5) / (wide - 0.5)
        half += path(half[-1], (right - step / 2, hem + 0.055, right - step, drop))[1:]
    canvas.cloth(whole(half))
    dark = shade(canvas.colour, 0.68)
    for wave in range(waves + 1):
        x = wave / waves
        fold = path(
            (0.5 + 0.09 * x, 0.25 + 0.03 * wave),
            (0.5 + 0.14 * x, 0.45, 0.5 + (wide - 0.5) * x * 0.96, hem - 0.03 * x - 0.01),
        )
        if wave < waves:
            for line in (fold, mirrored(fold)):
                canvas.line(line, dark, 0.008)
    band = path((0.388, 0.165), (0.5, 0.18, 0.612, 0.165), (0.62, 0.22), (0.5, 0.235, 0.38, 0.22))
    canvas.cloth(band, shade(canvas.colour, 0.8))
