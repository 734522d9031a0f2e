"""Everything about a user goes: a search of every table and every file finds nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file

from recjob.errors import DataError, LockedError, UserError
from recjob.jobs import forget as forget_module
from recjob.jobs.embed import embed
from recjob.jobs.embeddings import refresh_embeddings
from recjob.jobs.forget import ForgetResult, forget
from recjob.jobs.import_model import import_model
from recjob.jobs.import_tables import import_tables
from recjob.jobs.make_report import make_report
from recjob.jobs.night_inputs import plan_night
from recjob.jobs.night_shards import ShardWork, score_shards
from recjob.jobs.nightly_recommend import nightly_recommend
from recjob.jobs.runner import JOB_LOCKS, JobContext, run_job
from recjob.jobs.schedule_work import log_file
from recjob.jobs.stages import JobResult
from recjob.jobs.train_teacher import train_teacher
from recjob.jobs.training_site import checkpoint_folder
from recjob.jobs.workspace import on_database, read_student_shop
from recjob.settings import Settings
from recjob.store.database import Database
from recjob.store.ledger import Lease
from tests.fixtures_shop import Shop

USER = "user-004"
EVERY_TABLE = """
SELECT oid::regclass::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""


def models_folder(shop: Shop) -> Path:
    return shop.settings.home / "artifacts" / "models"


class KilledError(Exception):
    """Stands for a signal that leaves no time to do anything."""


def forgotten(shop: Shop, user: str = USER) -> ForgetResult:
    return shop.run("forget", partial(forget, user_id=user))


def night_cut_short(context: JobContext) -> JobResult:
    """A night that is killed when its lists are scored and not loaded."""
    catalog, row, stored = read_student_shop(context)
    vectors = refresh_embeddings(context, row, stored, catalog)
    plan = plan_night(context, catalog, row, stored, vectors)
    score_shards(context, plan.night, plan.ranges, ShardWork.of(context, plan.fingerprint))
    raise KilledError


def training_cut_short(shop: Shop) -> None:
    """A training of a teacher that gets SIGTERM in its first steps and saves its state."""

    def terminate() -> None:
        deadline = time.monotonic() + 120
        names = {"prefetch"}
        while time.monotonic() < deadline:
            if names & {thread.name for thread in threading.enumerate()}:
                break
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        shop.run("train-teacher", on_database(train_teacher))
    thread.join()


def files_naming(shop: Shop, what: bytes) -> list[Path]:
    """Files of the home folder that hold these bytes."""
    files = sorted(path for path in shop.settings.home.rglob("*") if path.is_file())
    return [path for path in files if what in path.read_bytes()]


def tables_naming(shop: Shop, user: str) -> list[str]:
    tables = [table for (table,) in shop.rows(EVERY_TABLE)]
    found = []
    for table in tables:
        query = f"SELECT count(*) FROM {table} AS t WHERE strpos(t::text, %s) > 0"
        if shop.rows(query, user) != [(0,)]:
            found.append(table)
    return found


def tables_with_key(shop: Shop, key: int) -> list[str]:
    tables = [
        table
        for (table,) in shop.rows(
            "SELECT attrelid::regclass::text FROM pg_attribute JOIN pg_class ON oid = attrelid "
            "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
            "AND attname = 'user_key'"
        )
    ]
    assert len(tables) >= 6
    return [
        table
        for table in tables
        if shop.rows(f"SELECT count(*) FROM {table} WHERE user_key = %s", key) != [(0,)]
    ]


def models_with(shop: Shop) -> dict[str, list[str]]:
    """The users of every model that has any, by model; as many ids as vectors."""
    found = {}
    for file in sorted(models_folder(shop).glob("*/users.json")):
        found[file.parent.name] = json.loads(file.read_text())
        vectors = load_file(file.with_name("users.safetensors"))["users.weight"]
        assert len(vectors) == len(found[file.parent.name])
    return found


@dataclass(frozen=True)
class Planted:
    """A shop where a user is everywhere, and what is known of the user."""

    shop: Shop
    key: int
    vectors: list[bytes]
    """Rows of the models that are the user's."""
    places: set[str]
    """Tables that name the user."""


@pytest.fixture
def planted(shop: Shop) -> Planted:
    [(key,)] = shop.rows("SELECT user_key FROM app_user WHERE user_id = %s", USER)
    with pytest.raises(KilledError):
        shop.run("nightly-recommend", night_cut_short)
    training_cut_short(shop)
    error = failed_import(shop)
    shop.rows(
        "INSERT INTO schedule_run (entry, slot, reason, host, pid) "
        "VALUES ('import', now(), %s, 'h', 1)",
        error,
    )
    shop.rows(
        "INSERT INTO gate_decision (model_key, decision, reason) "
        "SELECT model_key, 'refused', %s FROM model LIMIT 1",
        f"worse for {USER}",
    )
    log = log_file(shop.settings.home, "import", datetime(2026, 3, 1, tzinfo=UTC), 1)
    log.parent.mkdir(parents=True)
    log.write_text(f"error: {error}\nanother line\n")
    everybody = shop.settings.report.model_copy(update={"users_per_kind": 20})
    shop = replace(shop, settings=shop.settings.model_copy(update={"report": everybody}))
    shop.run("report", make_report)
    vectors = []
    for file in models_folder(shop).glob("*/users.json"):
        matrix = load_file(file.with_name("users.safetensors"))["users.weight"]
        vectors.append(matrix[json.loads(file.read_text()).index(USER)].tobytes())
    return Planted(shop, key, vectors, set(tables_naming(shop, USER)))


def failed_import(shop: Shop) -> str:
    """An import that ends with a message about the user; the message in the ledger."""
    folder = shop.folder / "bad"
    folder.mkdir()
    outfit, items = next(iter(shop.items_of().items()))
    (folder / "interactions.csv").write_text(f"user_id,outfit_id\nother,{outfit}\n")
    (folder / "negatives.csv").write_text(
        f"user_id,outfit_id,item_ids\n{USER},{outfit},{items[0]}\n"
    )
    with pytest.raises(DataError, match=USER):
        shop.run("import", partial(import_tables, folder=folder))
    [(error,)] = shop.rows(
        "SELECT error FROM job_run WHERE job = 'import' ORDER BY run_id DESC LIMIT 1"
    )
    return str(error)


def test_nothing_is_left(planted: Planted) -> None:
    shop = planted.shop
    assert planted.places == {"app_user", "job_run", "schedule_run", "gate_decision"}
    assert len(tables_with_key(shop, planted.key)) >= 5
    assert len(planted.vectors) == 2
    naming = {path.name for path in files_naming(shop, USER.encode())}
    assert naming == {"users.json", "index.html", "20260301T000000Z-1.log"}
    for vector in planted.vectors:
        assert [path.name for path in files_naming(shop, vector)] == ["users.safetensors"]
    assert checkpoint_folder(shop.settings, "teacher").read()
    interactions = len(shop.liked()[USER])
    others = models_with(shop)
    lists = shop.lists()

    result = forgotten(shop)

    assert result.found
    assert not result.forgotten_before
    assert (result.rows["app_user"], result.rows["interaction"]) == (1, interactions)
    assert result.rows["recommendation"] == 1
    assert min(result.rows[table] for table in ("evaluation_list", "user_embedding")) > 0
    assert (result.models, result.checkpoints, result.night) == (2, ("teacher",), True)
    assert (result.texts, result.report, result.logs) == (3, True, 1)
    assert not checkpoint_folder(shop.settings, "teacher").read()
    assert tables_naming(shop, USER) == []
    assert tables_with_key(shop, planted.key) == []
    statistics = shop.rows("SELECT pg_stats::text FROM pg_stats WHERE schemaname = 'public'")
    assert not [row for (row,) in statistics if USER in row]
    for secret in (USER.encode(), *planted.vectors):
        assert files_naming(shop, secret) == []
    assert models_with(shop) == {
        model: [user for user in users if user != USER] for model, users in others.items()
    }
    log = log_file(shop.settings.home, "import", datetime(2026, 3, 1, tzinfo=UTC), 1)
    assert log.read_text().endswith("\nanother line\n")
    # What readers see of others is as it was, and so are nights with the models that are left.
    assert shop.lists() == {user: rows for user, rows in lists.items() if user != USER}
    shop.run("embed", embed)
    night = shop.run("nightly-recommend", nightly_recommend)
    assert (night.continues, night.continued_shards) == (None, 0)
    warm = set(next(iter(models_with(shop).values())))
    after = shop.lists()
    assert after.keys() == lists.keys() - {USER}
    assert all(after[user] == lists[user] for user in warm)
    shop.run("report", make_report)

    # The shop's export still names the user.
    assert USER in (shop.folder / "shop" / "interactions.csv").read_text()
    again = shop.run("import", partial(import_tables, folder=shop.folder / "shop"))
    assert again.forgotten.users == 1
    assert again.forgotten.interactions == interactions
    assert (again.users.added, again.interactions.added) == (0, 0)
    shop.run("train-teacher", on_database(train_teacher))
    assert all(USER not in users for users in models_with(shop).values())
    assert tables_naming(shop, USER) == []
    assert files_naming(shop, USER.encode()) == []


@pytest.mark.parametrize("step", ["forget_user", "drop_checkpoints", "settle_model"])
def test_killed_in_the_middle_it_is_finished_by_the_next(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Before the transaction nothing is gone; after it everything works, and the rest follows."""

    def kill(*_: object) -> None:
        raise KilledError

    checkpoint = checkpoint_folder(shop.settings, "student")
    checkpoint.save({}, {"users": torch.zeros(3)}, None)
    with monkeypatch.context() as patch:
        patch.setattr(forget_module, step, kill)
        with pytest.raises(KilledError):
            forgotten(shop)
    gone = step != "forget_user"
    assert (USER in shop.users()) != gone
    # The models can be used at once: what was registered is found where it was prepared.
    night = shop.run("nightly-recommend", nightly_recommend)
    assert night.lists == len(shop.users())
    result = forgotten(shop)
    assert (result.found, result.forgotten_before) == (not gone, gone)
    assert not checkpoint.path.exists()
    assert not list(shop.settings.home.rglob("*.prepared"))
    assert all(USER not in users for users in models_with(shop).values())
    assert files_naming(shop, USER.encode()) == []
    last = forgotten(shop)
    assert not last.found
    assert last.note == "the user was forgotten before; there was nothing left"


def test_a_user_who_was_never_there_is_kept_out_all_the_same(shop: Shop) -> None:
    checkpoint = checkpoint_folder(shop.settings, "teacher")
    checkpoint.save({}, {"users": torch.zeros(3)}, None)
    result = forgotten(shop, "somebody")
    assert (result.found, result.rows, result.models) == (False, {}, 0)
    assert result.note.startswith("nothing was known of this user")
    assert checkpoint.path.exists()
    shop.rows("UPDATE job_run SET error = 'no user anybody' WHERE job = 'import'")
    named = forgotten(shop, "anybody")
    assert (named.found, named.forgotten_before) == (False, False)
    assert named.texts > 0
    assert named.note.startswith("the catalog did not know the user")
    folder = shop.folder / "more"
    folder.mkdir()
    outfit, items = next(iter(shop.items_of().items()))
    (folder / "interactions.csv").write_text(
        f"user_id,outfit_id\nsomebody,{outfit}\nsomebody else,{outfit}\n"
    )
    added = shop.run("import", partial(import_tables, folder=folder))
    assert (added.users.added, added.forgotten.users, added.forgotten.interactions) == (1, 1, 1)
    assert "somebody else" in shop.users()
    assert "somebody" not in shop.users()
    # The shop's export goes on naming the user, and may be wrong in just that row.
    (folder / "negatives.csv").write_text(
        f"user_id,outfit_id,item_ids\nsomebody,elsewhere,{items[0]}\n"
    )
    with pytest.raises(DataError, match=r"user '\(forgotten\)' has no interaction") as raised:
        shop.run("import", partial(import_tables, folder=folder))
    [(error,)] = shop.rows("SELECT error FROM job_run ORDER BY run_id DESC LIMIT 1")
    assert error == str(raised.value)


@pytest.mark.parametrize("user", ["", "  ", "a\0b", "\udcff"])
def test_what_cannot_be_an_id(database: Database, tmp_path: Path, user: str) -> None:
    with pytest.raises(UserError, match="cannot be the id"):
        run_job("forget", database, Settings(home=tmp_path), partial(forget, user_id=user))


@pytest.mark.parametrize("job", ["train-teacher", "distill", "models-import", "gate", "import"])
def test_it_never_runs_beside_a_job_that_holds_users(
    database: Database, tmp_path: Path, job: str
) -> None:
    lease = Lease(database, job, JOB_LOCKS[job], {})
    with pytest.raises(LockedError, match=f"forget cannot start: {job} "):
        run_job("forget", database, Settings(home=tmp_path), partial(forget, user_id="u"))
    lease.end("done", {}, [], {}, None)


def test_models_from_elsewhere_come_without_forgotten_users(shop: Shop) -> None:
    """Trained on another machine before; importing it again finds it there already."""
    folder = shop.folder / "elsewhere"
    shutil.copytree(shop.model_folder("teacher"), folder)
    record = folder / "training.json"
    name = json.loads(record.read_text())["model_id"]
    record.write_text(record.read_text().replace(name, "teacher-elsewhere"))
    users = json.loads((folder / "users.json").read_text())
    assert USER in users
    forgotten(shop)
    for new in (True, False):
        result = shop.run("models-import", partial(import_model, folder=folder))
        assert (result.new, result.forgotten) == (new, 1)
    assert models_with(shop)["teacher-elsewhere"] == [user for user in users if user != USER]


def test_what_a_killed_training_left_unregistered_goes(shop: Shop) -> None:
    folder = models_folder(shop) / "teacher-nobody-knows"
    shutil.copytree(shop.model_folder("teacher"), folder)
    stranger = models_folder(shop) / "autoencoder-nobody-knows"
    shutil.copytree(shop.model_folder("autoencoder"), stranger)
    forgotten(shop)
    assert not folder.exists()
    assert stranger.exists()  # there are no users in it
