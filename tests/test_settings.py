"""Settings from defaults, a TOML file and the environment, the later wins."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from recjob.errors import SettingsError
from recjob.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[1]
URL = "postgresql://recjob:s3cret@db.example:5432/shop"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to write settings to, in an otherwise empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mine.toml"


def message(file: Path | None, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(file, environment or {})
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_defaults_need_nothing(write: Path) -> None:
    assert load_settings(None, {}) == Settings()
    assert Settings().home == Path("var")
    assert Settings().database_url is None


def test_a_file_and_the_environment_over_it(write: Path) -> None:
    write.write_text('seed = 3\nhome = "here"\n[teacher]\nepochs = 7\nbatch_size = 8\n')
    settings = load_settings(
        write, {"RECJOB_TEACHER__EPOCHS": "9", "RECJOB_HOME": "/there", "PATH": "/bin"}
    )
    assert (settings.seed, settings.teacher.epochs, settings.teacher.batch_size) == (3, 9, 8)
    assert settings.home == Path("/there")
    assert settings.student == Settings().student


def test_recjob_toml_is_found_where_it_is(write: Path) -> None:
    Path("recjob.toml").write_text("seed = 5\n")
    assert load_settings(None, {}).seed == 5
    write.write_text("seed = 6\n")
    assert load_settings(write, {}).seed == 6  # the named file instead, not on top


def test_the_process_environment_counts(write: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECJOB_HOME", "RECJOB_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RECJOB_NIGHTLY__K", "7")
    assert load_settings().nightly.k == 7


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("CATALOG__CATEGORIES", "top,bottom", "catalog.categories", ("top", "bottom")),
        ("CATALOG__CATEGORIES", "", "catalog.categories", ()),
        ("EVALUATION__COLD_START_OUTFITS", "1,3", "evaluation.cold_start_outfits", (1, 3)),
        ("STUDENT__AUGMENTATIONS", "erase,erase", "student.augmentations", ("erase", "erase")),
        ("TEACHER__FLIP", "false", "teacher.flip", False),
        ("TEACHER__LEARNING_RATE", "1e-3", "teacher.learning_rate", 1e-3),
        ("RULES__EXCLUDE_SEEN", "0", "rules.exclude_seen", False),
    ],
)
def test_values_from_text(write: Path, name: str, text: str, path: str, value: object) -> None:
    settings = load_settings(None, {f"RECJOB_{name}": text})
    assert attrgetter(path)(settings) == value


def test_unknown_keys_are_named_with_their_file(write: Path) -> None:
    for text, key in (("[teacher]\nepoch = 3\n", "teacher.epoch"), ("sead = 1\n", "sead")):
        write.write_text(text)
        assert message(write) == f"{write}: {key}: unknown key; see docs/settings.md for every key"


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("RECJOB_SEAD", "1", "is no setting; see docs/settings.md"),
        ("RECJOB_TEACHER__EPOCH", "1", "unknown key; see docs/settings.md for every key"),
        ("RECJOB_TEACHER__EPOCHS", "many", "valid integer"),
        ("RECJOB_TEACHER__EPOCHS", "0", "greater than or equal to 1"),
        ("RECJOB_STUDENT__AUGMENTATIONS", "erase,shuffle", "'identity', 'erase' or 'replace'"),
        ("RECJOB_STUDENT__AUGMENTATIONS", "erase", "the list is too short"),
        ("RECJOB_STUDENT__AUGMENTATIONS", "erase,erase,erase", "at most 2 items"),
        ("RECJOB_METRICS__LATENCY_BUCKETS", "1,0.5", "each greater than the one before"),
        ("RECJOB_METRICS__LATENCY_BUCKETS", "0,1", "numbers above 0"),
        ("RECJOB_METRICS__LATENCY_BUCKETS", "1,inf", "finite number"),
        ("RECJOB_SCHEDULE__NIGHTLY_HOURS", "inf", "finite number"),
        ("RECJOB_SCHEDULE__CATCH_UP_HOURS", "1e9", "less than or equal to 876000"),
        ("RECJOB_SCHEDULE__WAIT_HOURS", "1e9", "less than or equal to 876000"),
        ("RECJOB_NIGHTLY__CONTINUE_HOURS", "1e9", "less than or equal to 876000"),
        ("RECJOB_RETENTION__LEDGER_DAYS", "999999", "less than or equal to 36500"),
        ("RECJOB_METRICS__LATENCY_BUCKETS", "", "numbers above 0"),
        ("RECJOB_SEED__EPOCHS", "1", "seed is no section"),
        ("RECJOB_TEACHER__EPOCHS__MOST", "1", "unknown key"),
        ("RECJOB_TEACHER__", "1", "unknown key"),
        ("RECJOB_", "1", "is no setting"),
        ("RECJOB_TEACHER", "xs", "RECJOB_TEACHER__KEY"),
    ],
)
def test_bad_variables_are_named(write: Path, name: str, text: str, part: str) -> None:
    found = message(None, {name: text})
    assert found.startswith(f"environment: {name}")
    assert part in found


def test_values_out_of_range_are_named_with_their_file(write: Path) -> None:
    write.write_text("[images]\nsize = 5000\n")
    assert message(write) == f"{write}: images.size: Input should be less than or equal to 1024"
    # Who is wrong when both speak: the one that is.
    assert message(write, {"RECJOB_TEACHER__EPOCHS": "3"}).startswith(f"{write}: images.size")


def test_files_that_cannot_be_used(write: Path, tmp_path: Path) -> None:
    assert message(write) == f"{write}: no such settings file"
    assert message(tmp_path).startswith(f"{tmp_path}: cannot be read")
    write.write_text("seed = \n")
    assert message(write).startswith(f"{write}: not valid TOML: ")
    write.write_bytes(b"\xff\xfe")
    assert message(write).startswith(f"{write}: cannot be read")
    write.write_text("teacher = 3\n")
    assert message(write, {"RECJOB_TEACHER__EPOCHS": "1"}).startswith(f"{write}: teacher: ")


def test_the_database_url_comes_from_the_environment_only(write: Path) -> None:
    write.write_text(f'database_url = "{URL}"\n')
    found = message(write)
    assert found.startswith(f"{write}: database_url holds a secret")
    assert "RECJOB_DATABASE_URL" in found
    assert "s3cret" not in found
    settings = load_settings(None, {"RECJOB_DATABASE_URL": URL})
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == URL


def test_secrets_are_never_shown() -> None:
    settings = Settings(database_url=SecretStr(URL))
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert "s3cret" not in text


def test_nothing_can_be_changed_after_loading() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.seed = 2  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.teacher.epochs = 2  # type: ignore[misc]


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.toml")), ids=lambda f: f.name)
def test_examples_can_be_loaded(file: Path) -> None:
    assert load_settings(file, {}) != Settings()
