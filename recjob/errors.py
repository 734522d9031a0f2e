"""The exception tree. Every error that a person meets is one of these.

RecjobError                     exit 1  a fault of ours
├── NotFiniteError                      a model that computes no numbers
├── UserError                   exit 2  the user's mistake
│   ├── SettingsError                   an unknown key, a value out of range
│   ├── DataError                       a folder, file, row or picture that cannot be used
│   └── NotFoundError                   a user, model or run that does not exist
├── LockedError                 exit 3  another job holds the lock
├── RefusedError                exit 4  a gate or a limit said no
├── TemporaryError              exit 5  database away, disk full: worth a retry
└── StaleError                  exit 6  the published run is too old

A message is one line: what is wrong, where, and what to do about it.
"""

from typing import Final

LONGEST_REASON: Final = 200
"""Characters of another library's message that are told."""


def one_line(reason: object) -> str:
    """What a library or a file says, for a message: in one line, printable, not too long.

    Libraries quote what they read, and control characters of a file would reach the terminal.
    """
    text = " ".join(str(reason).split())[:LONGEST_REASON] or type(reason).__name__
    return "".join(letter if letter.isprintable() else "?" for letter in text)


class RecjobError(Exception):
    """Root of the tree; `exit_code` is what the command line returns."""

    exit_code = 1


class NotFiniteError(RecjobError):
    """A model's vectors hold infinity or nan: it diverged, or overflows in this precision."""


class UserError(RecjobError):
    """The user's mistake: input, settings or a name that does not exist."""

    exit_code = 2


class SettingsError(UserError):
    """A settings file or environment variable that cannot be used."""


class DataError(UserError):
    """A folder, file, row or picture that cannot be used."""


class NotFoundError(UserError):
    """Something that was asked for by name and does not exist."""


class LockedError(RecjobError):
    """Another job holds the lock."""

    exit_code = 3


class RefusedError(RecjobError):
    """A gate or a limit refused a result."""

    exit_code = 4


class TemporaryError(RecjobError):
    """The world is in the way (database away, disk full); a retry may succeed."""

    exit_code = 5


class StaleError(RecjobError):
    """The published run is older than allowed."""

    exit_code = 6
