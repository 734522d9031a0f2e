"""Retention removes what is old, says how much, and leaves what is in use."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from recjob.errors import NotFoundError
from recjob.jobs.embed import embed
from recjob.jobs.nightly_recommend import nightly_recommend
from recjob.jobs.retention import RetentionResult, plan_retention, retention
from recjob.store.database import open_database
from recjob.store.models import activate, model, register
from tests.fixtures_shop import Shop

DAY = 86_400.0


def removed(shop: Shop) -> RetentionResult:
    return shop.run("retention", retention)


def with_options(shop: Shop, **options: int) -> Shop:
    section = shop.settings.retention.model_copy(update=options)
    return replace(shop, settings=shop.settings.model_copy(update={"retention": section}))


def tree(folder: Path) -> dict[str, int]:
    """Size of every file."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file()
    }


def log(shop: Shop, name: str, days: float) -> Path:
    """A log that was last written to so many days ago."""
    path = shop.settings.home / "logs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x" * 1000)
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


def three_autoencoders(shop: Shop) -> str:
    """Take two more into use, copies of the first; the first, which is retired then."""
    first = shop.model_folder("autoencoder")
    with open_database(shop.settings) as database, database.begin() as connection:
        row = model(connection, first.name)
        for number in range(2):
            model_id = f"autoencoder-{number}"
            shutil.copytree(first, first.with_name(model_id))
            register(
                connection,
                model_id=model_id,
                role="autoencoder",
                parent=None,
                settings=row.settings,
                data_fingerprint=row.data_fingerprint,
                metrics=row.metrics,
                sha256=row.sha256,
                seed=row.seed,
                code_version=row.code_version,
            )
            activate(connection, model_id)
    return first.name


def test_a_new_installation_loses_nothing(shop: Shop) -> None:
    before = tree(shop.settings.home)
    result = removed(shop)
    assert (result.ledger_runs, result.schedule_rows, result.models) == (0, 0, ())
    assert (result.vectors, result.logs, result.bytes) == (0, 0, 0)
    assert tree(shop.settings.home) == before


def test_models_logs_and_ledger_rows(shop: Shop) -> None:
    shop = with_options(shop, retired_models=1)
    first = three_autoencoders(shop)
    old, new = log(shop, "import/old.log", 31), log(shop, "import/new.log", 29)
    oldest = log(shop, "embed/oldest.log", 400)
    shop.rows(
        "UPDATE job_run SET started = started - interval '500 days', ended = ended - "
        "interval '500 days' WHERE run_id <= 2"
    )
    index = shop.settings.home / "artifacts" / "indexes" / first
    index.mkdir()
    (index / "outfits.faiss").write_bytes(bytes(5000))
    folder = shop.settings.home / "artifacts" / "models" / first
    size = sum(tree(folder).values()) + 5000 + 2000
    before = tree(shop.settings.home)
    runs = shop.rows("SELECT count(*) FROM job_run")

    plan = plan_retention(shop.settings)
    assert tree(shop.settings.home) == before
    assert shop.rows("SELECT count(*) FROM job_run") == runs

    result = removed(shop)
    assert plan.model_dump() == {name: getattr(result, name) for name in type(plan).model_fields}
    assert (result.models, result.logs, result.bytes) == ((first,), 2, size)
    assert result.ledger_runs == 1  # the first of two imports; the last stays
    assert not folder.exists()
    assert not index.exists()
    assert not old.exists()
    assert not oldest.parent.exists()
    assert new.exists()
    assert shop.rows(
        "SELECT status, files_removed IS NOT NULL FROM model WHERE model_id = %s", first
    ) == [("retired", True)]
    with (
        open_database(shop.settings) as database,
        pytest.raises(NotFoundError, match=f"{first} cannot come back"),
        database.begin() as connection,
    ):
        activate(connection, first)
    again = removed(shop)
    assert (again.models, again.logs, again.bytes) == ((), 0, 0)
    shop.run("embed", embed)
    shop.run("nightly-recommend", nightly_recommend)


def test_killed_between_database_and_files_the_next_removes_them(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = with_options(shop, retired_models=1)
    first = three_autoencoders(shop)
    folder = shop.settings.home / "artifacts" / "models" / first

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("recjob.store.artifacts.ArtifactFolder.remove_folder", kill)
        with pytest.raises(KeyboardInterrupt):
            removed(shop)
    assert folder.exists()
    result = removed(shop)
    assert result.models == ()
    assert result.bytes > 0
    assert not folder.exists()
