"""The measured rates are a file that `plan` reads."""

from __future__ import annotations

from pathlib import Path

from recjob.bench.rates import RateWork, bench_rates, write_rates
from recjob.jobs.rates import Rates, read_rates
from recjob.settings import Settings

SMALL = RateWork(photos=2, items=4, outfits=8, scored_users=16, scored_outfits=64, places=5)


def test_what_is_measured_here_is_what_plan_reckons_with(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"compute": {"device": "cpu"}, "images": {"size": 64}, "embed": {"batch_size": 4}}
    )
    measured = bench_rates(settings, SMALL)
    file = tmp_path / "rates.toml"
    write_rates(measured, file)
    read = read_rates(file)
    assert measured.rates.keys() == {
        "decoded_pictures_per_core",
        "item_pictures_per_core",
        "outfits_per_core",
        "pairs_per_core",
        "faiss_pairs_per_core",
    }
    for name in Rates.model_fields:
        if name in measured.rates:
            assert getattr(read, name).basis == "measured"
            assert "bench rates" in getattr(read, name).source
            written, value = getattr(read, name).value, measured.rates[name].value
            assert abs(written / value - 1) < 1e-3
        else:
            assert getattr(read, name) == getattr(Rates(), name)
