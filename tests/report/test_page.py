from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from recjob.report import page as page_module
from recjob.report.page import (
    MethodQuality,
    QuarantinedItem,
    ReportItem,
    ReportOutfit,
    ReportPage,
    ReportUser,
    StageCost,
    duration,
    memory,
    write_page,
)
from recjob.report.pictures import jpeg

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Reads a page, checks that its elements are closed in order and keeps what it saw."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(" ".join(data.split()))

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        wanted = attributes.items()
        return [found for name, found in self.elements if name == tag and wanted <= found.items()]


def picture(red: int) -> bytes:
    return jpeg(np.full((16, 16, 3), (red, 0, 0), np.uint8), 16)


def outfit(name: str, score: float | None, *categories: str) -> ReportOutfit:
    items = tuple(ReportItem(f"{name}-{c}", c, picture(9 * i)) for i, c in enumerate(categories))
    return ReportOutfit(name, score, items)


@pytest.fixture
def page() -> ReportPage:
    return ReportPage(
        title="A night in the shop",
        generated=datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
        run_id="run-17",
        figures=(("outfits", "7,310"), ("users", "120")),
        stages=(StageCost("import", 2.0, 2**28), StageCost("train-teacher", 126.4, 2 * 2**30)),
        quality=(MethodQuality("student", 0.871, 0.8), MethodQuality("popularity", 0.741, 0.7)),
        users=(
            ReportUser(
                "anna",
                "warm",
                (outfit("o1", None, "top", "bottom", "shoes"),),
                (outfit("o2", 0.934, "top", "shirt", "skirt", "boots"), outfit("o3", 0.5, "bag")),
            ),
            ReportUser("ben", "cold", (outfit("o4", None, "dress"),), ()),
            ReportUser("cleo", "stranger", (), (outfit("o5", None, "dress", "hat"),)),
        ),
        quarantined=(QuarantinedItem("i9", "truncated JPEG"),),
    )


def written(tmp_path: Path, page: ReportPage) -> str:
    path = tmp_path / "deep" / "report.html"
    write_page(path, page)
    assert [found.name for found in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_a_page_shows_what_it_was_given(tmp_path: Path, page: ReportPage) -> None:
    found = Page(written(tmp_path, page))
    expected = ["A night in the shop", "run-17", "7,310", "student", "0.871", "anna", "ben", "cleo"]
    expected += ["0.93", "2 min 06 s", "2.0 GiB", "truncated JPEG", "04 March 2026, 05:06 UTC"]
    expected += ["No outfit could be recommended."]
    assert [text for text in expected if text not in found.texts] == []
    shown = [attributes["alt"] for attributes in found.all("img")]
    wanted = [f"{i.category} {i.item_id}" for u in page.users for o in u.liked for i in o.items]
    wanted += [
        f"{i.category} {i.item_id}" for u in page.users for o in u.recommended for i in o.items
    ]
    assert sorted(shown) == sorted(wanted)
    assert len(found.all("span", **{"class": "score"})) == 2


def test_a_page_needs_nothing_else(tmp_path: Path, page: ReportPage) -> None:
    html = written(tmp_path, page)
    found = Page(html)
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in found.all("img"))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r'src="data:[^"]*"', "", html))
    assert found.all("script") == found.all("link") == found.all("iframe") == []
    policy = found.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert "default-src 'none'" in policy


def test_hostile_texts_are_only_text(tmp_path: Path, page: ReportPage) -> None:
    hostile = "\"'><script>alert(1)</script>{{ 7 * 7 }}</style>"
    item = ReportItem(hostile, hostile, picture(0))
    card = ReportOutfit(hostile, 0.5, (item,))
    html = written(
        tmp_path,
        replace(
            page,
            title=hostile,
            run_id=hostile,
            figures=((hostile, hostile),),
            stages=(StageCost(hostile, 1, 1),),
            quality=(MethodQuality(hostile, 0.5, 0.5),),
            users=(ReportUser(hostile, "warm", (card,), (card,)),),
            quarantined=(QuarantinedItem(hostile, hostile),),
        ),
    )
    found = Page(html)
    assert found.all("script") == []
    assert len(found.all("style")) == 1
    assert found.all("img")[0]["alt"] == f"{hostile} {hostile}"
    assert html.count("7 * 7") >= 12


def test_an_empty_page(tmp_path: Path) -> None:
    empty = ReportPage("Nothing yet", datetime.now(UTC), "none", (), (), (), (), ())
    assert "Nothing yet" in Page(written(tmp_path, empty)).texts


def test_a_page_that_cannot_be_made_leaves_the_old_one(
    tmp_path: Path, page: ReportPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(page: ReportPage) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(page_module, "render", fail)
    with pytest.raises(KeyboardInterrupt):
        write_page(path, page)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [
        ("report.html", "old")
    ]


def test_units_for_people() -> None:
    assert [duration(s) for s in (0.04, 9.94, 9.96, 59.4, 59.6, 125, 3599.6, 4320)] == [
        *("0.0 s", "9.9 s", "10 s", "59 s", "1 min 00 s", "2 min 05 s", "1 h 00 min", "1 h 12 min")
    ]
    assert [memory(b) for b in (2**20, 999 * 2**20, 2**30, 3.14 * 2**30)] == [
        *("1 MiB", "999 MiB", "1.0 GiB", "3.1 GiB")
    ]
