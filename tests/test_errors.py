"""The exception tree is the one that its module draws, and exit codes are the documented ones."""

from __future__ import annotations

import inspect
import re

import pytest

from recjob import errors
from recjob.errors import LONGEST_REASON, RecjobError, one_line

CODES = {
    "RecjobError": 1,
    "NotFiniteError": 1,
    "UserError": 2,
    "SettingsError": 2,
    "DataError": 2,
    "NotFoundError": 2,
    "LockedError": 3,
    "RefusedError": 4,
    "TemporaryError": 5,
    "StaleError": 6,
}
CLASSES: dict[str, type[RecjobError]] = dict(inspect.getmembers(errors, inspect.isclass))


def test_every_error_is_in_the_tree_with_its_code() -> None:
    assert {name: error.exit_code for name, error in CLASSES.items()} == CODES
    assert all(issubclass(error, RecjobError) for error in CLASSES.values())


@pytest.mark.parametrize("name", CODES)
def test_the_drawing_agrees(name: str) -> None:
    assert errors.__doc__ is not None
    [line] = [line for line in errors.__doc__.splitlines() if re.search(rf"\b{name}\b", line)]
    drawn = re.search(r"exit (\d)", line)
    if drawn:
        assert int(drawn[1]) == CODES[name]
    else:  # inherited from the line above
        assert CLASSES[name].exit_code == CLASSES[name].mro()[1].exit_code  # type: ignore[attr-defined]
    depth = len(re.match(r"[│├└─ ]*", line)[0]) // 4  # type: ignore[index]
    assert len(CLASSES[name].__mro__) == depth + len(RecjobError.__mro__)


def test_what_libraries_say_is_one_printable_line() -> None:
    assert one_line(ValueError("a\n  b\tc")) == "a b c"
    assert one_line("type: \x0f \x1b[2J \udc97") == "type: ? ?[2J ?"
    assert one_line(KeyError()) == "KeyError"
    assert len(one_line("x" * 999)) == LONGEST_REASON
