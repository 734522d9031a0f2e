"""The benchmark of `embed` on a shop of a hundred items."""

from __future__ import annotations

import pytest

from recjob.bench.embed import bench_embed, print_embed
from recjob.settings import ComputeSettings, ImageSettings, Settings

SETTINGS = Settings(
    images=ImageSettings(size=64),
    compute=ComputeSettings(device="cpu", precision="fp32", threads=1),
)


@pytest.mark.system
def test_three_nights(capsys: pytest.CaptureFixture[str]) -> None:
    result = bench_embed(SETTINGS, items=120, outfits=300, users=20)
    first, changed, same = result.nights
    assert (first.items, first.outfits, first.rows_written) == (120, 300, 440)
    assert changed.items == result.changed_items == 1
    assert 0 < changed.outfits < 30
    assert changed.rows_written == 1 + changed.outfits
    assert (same.items, same.outfits, same.rows_written) == (0, 0, 0)
    assert first.share_of_first == 1
    assert result.share == changed.share_of_first == changed.seconds / first.seconds
    assert result.picture_side == 64
    print_embed(result)
    printed = capsys.readouterr().out
    for words in ("item features", "1 % new", "of the first", "goal: at most 5%"):
        assert words in printed
