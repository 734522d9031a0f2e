"""What a user writes: the settings file, environment variables, the database's URL."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from recjob.jobs.schedule_entries import schedule_entries
from recjob.settings import ENVIRONMENT_PREFIX, Settings, load_settings
from recjob.store.database import _engine, _name, _parse
from tests.fuzz.mutations import AWKWARD_TEXTS, mutated_bytes, mutated_value
from tests.fuzz.target import Target

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
VARIABLES: Final = (
    b"RECJOB_SEED=7",
    b"RECJOB_HOME=/nowhere",
    b"RECJOB_TEACHER__EPOCHS=3",
    b"RECJOB_RULES__REQUIRED_CATEGORIES=top,bottom",
    b"RECJOB_PAPER__ALPHAS=0.5,1.5",
    b"RECJOB_TEACHER__FLIP=false",
)
PLANTED: Final = "pl4nt3d"
CRON: Final = (
    b"UTC\n0 2 * * *",
    b"Europe/Berlin\n*/15 1-5 1,15 jan-mar mon-fri",
    b"Africa/Cairo\n0 0 last * sun",
)
"""A zone and an expression."""
URLS: Final = tuple(
    url.encode()
    for url in (
        f"postgresql://user:{PLANTED}@127.0.0.1:1/shop",
        f"postgres://user:{PLANTED}@127.0.0.1:1/shop?sslmode=verify-full&sslrootcert=/ca.pem",
        f"postgresql:///shop?host=/tmp&user=user&password={PLANTED}",
        f"postgresql://user:{PLANTED}@[::1],127.0.0.1:1/shop?connect_timeout=1",
    )
)


def configuration(scratch: Path) -> tuple[Target, ...]:
    """The targets; the settings file lies in `scratch`."""
    file = scratch / "settings" / "recjob.toml"
    file.parent.mkdir()
    examples = tuple(path.read_bytes() for path in sorted(EXAMPLES.glob("*.toml")))
    defaults = Settings().model_dump(mode="json", exclude={"database_url"})
    return (
        Target(
            "settings file",
            examples,
            lambda _: load_settings(file, {}),
            st.one_of(mutated_bytes(examples), mutated_toml(defaults)),
            file=file,
        ),
        Target(
            "environment",
            (b"\n".join(VARIABLES),),
            _use_environment,
            st.one_of(mutated_bytes([b"\n".join(VARIABLES)]), variables()),
        ),
        Target(
            "schedule",
            CRON,
            _use_schedule,
            st.one_of(mutated_bytes(CRON), mutated_bytes(CRON), schedules()),
            4,
        ),
        Target("database URL", URLS, _use_url, mutated_bytes(URLS), 4, PLANTED),
    )


@st.composite
def mutated_toml(draw: DrawFn, valid: dict[str, Any]) -> bytes:
    """A settings file with one section whole, and in it values and keys exchanged."""
    sections = [name for name, value in valid.items() if isinstance(value, dict)]
    name = draw(st.sampled_from(sections))
    changed = draw(mutated_value({name: valid[name]}).filter(lambda value: isinstance(value, dict)))
    return "".join(_toml_lines(changed)).encode("utf-8", "surrogatepass")


def _toml_lines(value: dict[str, Any]) -> list[str]:
    lines = []
    for key, content in value.items():
        if isinstance(content, dict):
            lines.append(f"[{_toml(key)}]\n")
            lines += [f"{_toml(name)} = {_toml(inner)}\n" for name, inner in content.items()]
        else:
            lines.insert(0, f"{_toml(key)} = {_toml(content)}\n")
    return lines


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(_escaped(letter) for letter in value) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    return "{}" if value is None else str(value)


def _escaped(letter: str) -> str:
    return f"\\u{ord(letter):04x}" if letter < " " or letter in '"\\\x7f' else letter


@st.composite
def variables(draw: DrawFn) -> bytes:
    """Variables of right names and odd values, and of odd names."""
    paths = [(name,) for name in Settings.model_fields]
    for name, field in Settings.model_fields.items():
        keys = getattr(field.annotation, "model_fields", {})
        paths += [(name, key) for key in keys]  # type: ignore[misc]
    lines = []
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(paths))
        more = draw(st.sampled_from(("", "", "", "", "X", "__X", "__")))
        value = draw(st.sampled_from(AWKWARD_TEXTS))
        lines.append(f"{ENVIRONMENT_PREFIX}{'__'.join(path).upper()}{more}={value}")
    return "\n".join(lines).encode()


def _use_environment(data: bytes) -> None:
    # As the operating system hands them over: no zero bytes, other bytes as surrogates.
    lines = [line.partition(b"=") for line in data.replace(b"\0", b"").split(b"\n")]
    environment = {os.fsdecode(name): os.fsdecode(value) for name, _, value in lines if name}
    load_settings(Path(os.devnull), environment)


@st.composite
def schedules(draw: DrawFn) -> bytes:
    """Awkward words in the fields of an expression."""
    words = ("*", "0", "-1", "60", "*/0", "1-", "5-1", "sun", "xx", "31", "2nd fri", "last", "1/5")
    fields = [draw(st.sampled_from((*words, *AWKWARD_TEXTS))) for _ in range(5)]
    zone = draw(st.sampled_from(("UTC", "Europe/Berlin", "../UTC", *AWKWARD_TEXTS)))
    return f"{zone}\n{' '.join(fields)}".encode()


def _use_schedule(data: bytes) -> None:
    """An entry's next time, as `schedule --list` shows it."""
    zone, _, expression = os.fsdecode(data.replace(b"\0", b"")).partition("\n")
    variables = {"TIMEZONE": zone, "NIGHTLY_CRON": expression}
    prefix = f"{ENVIRONMENT_PREFIX}SCHEDULE__"
    settings = load_settings(
        Path(os.devnull), {f"{prefix}{name}": value for name, value in variables.items()}
    )
    for entry in schedule_entries(settings):
        if entry.name == "nightly" and entry.cron is not None:
            entry.cron.next(datetime(2026, 1, 1, tzinfo=UTC))


def _use_url(data: bytes) -> None:
    """What is made of it before the connection: a mutated host might be somebody's."""
    text = os.fsdecode(data.replace(b"\0", b""))
    settings = load_settings(Path(os.devnull), {f"{ENVIRONMENT_PREFIX}DATABASE_URL": text})
    if settings.database_url is None:
        return
    url = _parse(settings.database_url.get_secret_value())
    str(_name(url))
    _engine(url).dispose()
