"""What is wrong with a cluster before anything was given to it; `tests/system` has a real one."""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from typing import Any

import pytest

from recjob.errors import SettingsError
from recjob.jobs.embed import embed
from recjob.jobs.nightly_recommend import nightly_recommend
from recjob.jobs.ray_cluster import run_shards
from recjob.jobs.ray_workers import Latencies, ScoringWorker
from recjob.settings import RaySettings
from tests.fixtures_shop import Shop


def nothing(number: int, latencies: Latencies | None = None) -> None:
    raise AssertionError("no shard may be begun")


def refused(address: str) -> str:
    with pytest.raises(SettingsError) as caught:
        run_shards(RaySettings(address=address), [0], nothing, ScoringWorker, (), nothing)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert f"ray.address '127.0.0.1:{port}': no cluster answers" in refused(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["ray://head:10001", "somewhere", ":6379", "head:"])
def test_what_is_no_address(address: str) -> None:
    assert f"ray.address {address!r}: must be" in refused(address)


def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "install recjob[ray]" in refused("")


def on_ray(shop: Shop, **changes: dict[str, Any]) -> Shop:
    settings = shop.settings
    sections = {"nightly": {"engine": "ray"}} | changes
    update = {
        name: getattr(settings, name).model_copy(update=values) for name, values in sections.items()
    }
    return replace(shop, settings=settings.model_copy(update=update))


def test_what_does_not_run_on_ray_is_refused(shop: Shop) -> None:
    with pytest.raises(SettingsError, match=r"embed\.engine = \"tensorrt\" does not run on Ray"):
        on_ray(shop, embed={"engine": "tensorrt"}).run("embed", embed)
    indexed = on_ray(shop, nightly={"engine": "ray", "search": "index"})
    with pytest.raises(SettingsError, match=r"nightly\.search = \"index\" does not run on Ray"):
        indexed.run("nightly-recommend", nightly_recommend)
