"""Drawn garments for the demo: cloth on a canvas, and the cut of each kind."""

from __future__ import annotations

from collections.abc import Callable

from recjob.catalog.garments import bottoms, shoes, tops
from recjob.catalog.garments.canvas import Canvas, Cut

KINDS: dict[str, dict[str, Callable[[Canvas, Cut], None]]] = {
    "top": {
        "t-shirt": tops.t_shirt,
        "tank top": tops.tank_top,
        "shirt": tops.shirt,
        "sweater": tops.sweater,
        "hoodie": tops.hoodie,
        "jacket": tops.jacket,
        "coat": tops.coat,
    },
    "bottom": {
        "trousers": bottoms.trousers,
        "jeans": bottoms.jeans,
        "shorts": bottoms.shorts,
        "pencil skirt": bottoms.pencil_skirt,
        "flared skirt": bottoms.flared_skirt,
    },
    "shoes": {
        "sneakers": shoes.sneaker,
        "boots": shoes.boot,
        "heels": shoes.heel,
        "loafers": shoes.loafer,
        "sandals": shoes.sandal,
    },
}
"""How to draw each kind, by category."""
