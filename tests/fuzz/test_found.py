"""What fuzzing has found, so that it stays mended: each ended in something else than a line."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.fixtures_database import scratch_folder
from tests.fuzz.configuration import PLANTED
from tests.fuzz.groups import GROUPS, make_targets
from tests.fuzz.target import Outcome, Target, outcome

Change = Callable[[bytes], bytes]


def put(data: bytes) -> Change:
    """Instead of a valid input."""
    return lambda _: data


def swap(old: bytes, new: bytes) -> Change:
    """In a valid input."""
    return lambda seed: seed.replace(old, new, 1)


def lists_without_utf8(seed: bytes) -> bytes:
    """Evaluation lists whose user is no text."""
    table = pyarrow.parquet.read_table(io.BytesIO(seed))
    names = pa.array([b"\x97"] * len(table), pa.binary()).view(pa.string())
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table.set_column(0, "user_id", names), sink)
    return sink.getvalue()


def outfits_without_utf8(seed: bytes) -> bytes:
    """Outfits whose items are no texts."""
    table = pyarrow.parquet.read_table(io.BytesIO(seed))
    lists = table["item_ids"].combine_chunks()
    items = pa.array([b"\x93"] * len(lists.values), pa.binary()).view(pa.string())
    sink = io.BytesIO()
    changed = pa.ListArray.from_arrays(lists.offsets, items)
    pyarrow.parquet.write_table(table.set_column(1, "item_ids", changed), sink)
    return sink.getvalue()


FOUND: Final[tuple[tuple[str, str, Change, Outcome], ...]] = (
    # Control characters reached the terminal.
    ("artifacts", "training.json", swap(b"{", b'{"\\u0000\\u001b": 1, '), "refused"),
    ("configuration", "settings file", put(b'"\\u001b[2J" = 1'), "refused"),
    ("configuration", "environment", put(b"RECJOB_\x1b[2J=1"), "refused"),
    # Pillow warned on standard error of pictures that were used.
    ("importers", "picture JPEG", swap(b"MM\0*\0\0\0\x08\0\x01", b"MM\0*\0\0\0\x08\0\x09"), "used"),
    # Numbers and nests beyond Python's limits.
    ("configuration", "settings file", put(b"seed = " + b"9" * 5000), "refused"),
    ("configuration", "settings file", put(b"seed = " + b"[" * 3000), "refused"),
    ("artifacts", "recommender users.json", put(b"[" * 5000), "refused"),
    ("artifacts", "recommender model.json", swap(b"64", b"1e999"), "refused"),
    ("artifacts", "autoencoder model.json", swap(b": 2", b": 1e999"), "refused"),
    # Memory for sizes that the file does not have; and a warning of torch.
    ("artifacts", "autoencoder model.json", swap(b": 2", b": 4611686018427387904"), "refused"),
    ("artifacts", "autoencoder model.json", swap(b": 2", b": 0"), "refused"),
    # Other types than expected.
    ("artifacts", "manifest registered", put(b"[" * 5000), "refused"),
    ("artifacts", "manifest registered", put(b'["part"]'), "refused"),
    ("artifacts", "manifest registered", put(b'{"part": 1}'), "refused"),
    ("artifacts", "packed pictures", lambda seed: seed[:-2] + b"\x80\n", "refused"),
    ("artifacts", "packed pictures", swap(b"side 64", b"side 64" + b"9" * 5000), "refused"),
    ("importers", "outfits.parquet", outfits_without_utf8, "refused"),
    ("importers", "outfits.parquet", lambda s: s.replace(b"available", b"\x8b" * 9), "refused"),
    ("artifacts", "evaluation lists", lists_without_utf8, "refused"),
    # A changed tensor was gone on from.
    ("artifacts", "checkpoint", lambda seed: seed[:-1] + b"\x7f", "refused"),
    # Parts of the URL were quoted, and with them the password.
    ("configuration", "database URL", swap(b"/shop", b"/sh p"), "used"),
    ("configuration", "database URL", swap(b"/shop", b"/shop\xff"), "refused"),
    ("configuration", "database URL", swap(b"user:", b"user:x@"), "refused"),
    (
        "configuration",
        "database URL",
        put(f"postgresql://a/b?postgresql://user:{PLANTED}@host/b?x=y".encode()),
        "refused",
    ),
)


@pytest.fixture(scope="module")
def targets() -> Iterator[dict[tuple[str, str], Target]]:
    with scratch_folder() as scratch:
        found: dict[tuple[str, str], Target] = {}
        for group in GROUPS:
            own = Path(scratch) / group
            own.mkdir()
            found |= {(group, target.name): target for target in make_targets(group, own)}
        yield found


@pytest.mark.parametrize("number", range(len(FOUND)))
def test_found(targets: dict[tuple[str, str], Target], number: int) -> None:
    group, name, change, expected = FOUND[number]
    target = targets[group, name]
    data = change(target.seeds[0])
    assert data != target.seeds[0]
    assert outcome(target, data) == expected
