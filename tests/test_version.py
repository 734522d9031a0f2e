"""The version of the code tells any two states of it apart."""

from __future__ import annotations

import shutil
from pathlib import Path

from recjob import __version__
from recjob.version import PACKAGE, source_digest, source_version


def test_it_follows_the_sources_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    digest = source_digest(copy)
    assert source_version() == f"{__version__}+{digest[:12]}"
    (copy / "notes.txt").write_text("not a part of it")
    assert source_digest(copy) == digest
    with (copy / "ranking" / "__init__.py").open("a") as file:
        file.write("# changed\n")
    assert source_digest(copy) != digest


def test_names_count_and_cannot_be_mistaken_for_contents(tmp_path: Path) -> None:
    digests = set()
    for number, (name, content) in enumerate([("a.py", "b"), ("ab.py", ""), ("b.py", "a")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_text(content)
        digests.add(source_digest(folder))
    assert len(digests) == 3
