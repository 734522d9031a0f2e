"""What stands in the way of a job before it starts, and files that it may not use."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from recjob.errors import TemporaryError, UserError
from recjob.jobs.demo import run_demo
from recjob.jobs.import_tables import import_tables
from recjob.jobs.stages import disk_errors_told
from recjob.jobs.start import prepare_home, start_job
from recjob.settings import Settings
from recjob.store.database import open_database
from recjob.store.ledger import list_job_runs
from tests.fixtures_shop import Shop

NOBODY = 65534
"""A user id without rights."""


def test_a_home_is_made(tmp_path: Path) -> None:
    prepare_home(tmp_path / "a" / "b")
    prepare_home(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/var"])
def test_a_home_that_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be the home folder \(.*\); set RECJOB_HOME"):
        prepare_home(tmp_path / name)


def test_a_home_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    root = os.geteuid() == 0  # who may write everywhere
    if root:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(UserError, match=r"home folder \(Permission denied\); set RECJOB_HOME"):
            prepare_home(tmp_path / "var")
    finally:
        if root:
            os.seteuid(0)
        tmp_path.chmod(0o700)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(TemporaryError, match="full; make room"):
        prepare_home(tmp_path)


def test_a_file_in_the_place_of_a_folder(shop: Shop, tmp_path: Path) -> None:
    home = tmp_path / "other"
    home.mkdir()
    (home / "images").write_text("")
    settings = shop.settings.model_copy(update={"home": home})
    body = partial(import_tables, folder=shop.folder / "shop")
    with pytest.raises(UserError, match=f"^{home}/images/64: Not a directory; run as its owner"):
        start_job("import", settings, body)
    with open_database(settings) as database, database.connect() as connection:
        [run] = list_job_runs(connection, 1)
    assert run.outcome == "failed"
    assert "Not a directory" in (run.error or "")


def test_disk_errors_that_say_nothing_stay_what_they_are(tmp_path: Path) -> None:
    for error in (PermissionError(errno.EACCES, "denied"), FileNotFoundError(errno.ENOENT, "no")):
        with pytest.raises(type(error)), disk_errors_told(tmp_path):
            raise error
    with pytest.raises(UserError, match=r"^/a/b: denied; "), disk_errors_told(tmp_path):
        raise PermissionError(errno.EACCES, "denied", "/a/b")


def test_the_demo_empties_no_folder_but_its_own(tmp_path: Path) -> None:
    precious = tmp_path / "var" / "demo" / "mine" / "photo.jpg"
    precious.parent.mkdir(parents=True)
    precious.write_text("")
    with pytest.raises(UserError, match="was not made by the demo"):
        next(run_demo(Settings(home=tmp_path / "var")))
    assert precious.exists()


def test_the_demo_begins_anew(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"home": tmp_path / "var", "demo": {"items": 60, "users": 4, "image_size": 64}}
    )
    for _ in range(2):
        steps = run_demo(settings)
        assert isinstance(next(steps), float)  # drawn
        steps.close()  # type: ignore[attr-defined]
        left = settings.home / "demo" / "catalog" / "left.txt"
        assert not left.exists()
        left.write_text("")
