"""Fixtures of the system tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recjob.store.embedded import EmbeddedServer
from tests.fixtures_shop import Shop, copy_shop
from tests.system.nights import NightServer, change_pictures, night_server


@pytest.fixture(scope="session")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NightServer]:
    """Starts commands that can be killed at any moment."""
    with night_server(tmp_path_factory.mktemp("nights")) as server:
        yield server


@pytest.fixture(scope="session")
def changed_shop(
    trained_shop: Shop, postgres: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Shop:
    """The shop after new pictures were imported, before the night; not to be changed."""
    shop = copy_shop(trained_shop, postgres, tmp_path_factory.mktemp("changed") / "shop")
    change_pictures(shop)
    return shop
