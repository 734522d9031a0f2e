"""Fixtures for every test: servers, and the real data where they are beside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ("tests.fixtures_database", "tests.command_line", "tests.fixtures_shop")

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def wardrobe() -> Path:
    """Real photographs with simulated users, in the import format."""
    return _folder("wardrobe")


@pytest.fixture(scope="session")
def wardrobe_cold() -> Path:
    """Newcomers to `wardrobe`, without items of their own."""
    return _folder("wardrobe-cold")


def _folder(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"the data set {name} is not beside the checkout")
    return folder
