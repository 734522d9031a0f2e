"""The page people look at after a run: one file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import os
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from recjob.report.layout import Zone, rows

TEMPLATES = Path(__file__).parent / "templates"

UserKind = Literal["warm", "cold", "stranger"]


@dataclass(frozen=True)
class ReportItem:
    """One garment."""

    item_id: str
    category: str
    picture: bytes
    """A JPEG; see `pictures.jpeg`."""


@dataclass(frozen=True)
class ReportOutfit:
    """One card."""

    outfit_id: str
    score: float | None
    """None: no badge."""
    items: tuple[ReportItem, ...]

    @property
    def rows(self) -> tuple[tuple[Zone, tuple[ReportItem, ...]], ...]:
        """The items from head to foot."""
        return rows(self.items, lambda item: item.category)


@dataclass(frozen=True)
class ReportUser:
    """What a user liked beside what the run recommends, best first."""

    user_id: str
    kind: UserKind
    liked: tuple[ReportOutfit, ...]
    recommended: tuple[ReportOutfit, ...]


@dataclass(frozen=True)
class StageCost:
    """What a stage of the job took."""

    stage: str
    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class MethodQuality:
    """Means over users on the test part; both lie in [0, 1]."""

    method: str
    auc: float
    ndcg_mean: float


@dataclass(frozen=True)
class QuarantinedItem:
    """An item whose picture could not be used."""

    item_id: str
    reason: str


@dataclass(frozen=True)
class ReportPage:
    """Everything on the page. The first method of `quality` is the one the lists come from."""

    title: str
    generated: datetime
    run_id: str
    figures: tuple[tuple[str, str], ...]
    """Label and value of each figure of the summary."""
    stages: tuple[StageCost, ...]
    quality: tuple[MethodQuality, ...]
    users: tuple[ReportUser, ...]
    quarantined: tuple[QuarantinedItem, ...]


def write_page(path: Path, page: ReportPage) -> None:
    """Writes `page` to `path`, a whole HTML file or none: beside it first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(render(page))
        Path(name).chmod(0o644)  # a temporary file is private, a report is not
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def render(page: ReportPage) -> str:
    """The HTML of `page`: every text escaped, styles and pictures inside."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        data_uri=_data_uri, duration=duration, memory=memory, percent=lambda part: f"{part:.2%}"
    )
    kinds: tuple[UserKind, ...] = ("warm", "cold", "stranger")
    return environment.get_template("page.html.j2").render(
        page=page,
        by_kind={kind: [user for user in page.users if user.kind == kind] for kind in kinds},
        total_seconds=sum(stage.seconds for stage in page.stages),
        longest_seconds=max((stage.seconds for stage in page.stages), default=0.0),
    )


def duration(seconds: float) -> str:
    """Seconds for people: `0.4 s`, `38 s`, `2 min 05 s`, `1 h 12 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def memory(size_bytes: float) -> str:
    """Bytes for people, in powers of 1024: `512 MiB`, `3.1 GiB`."""
    mebibytes = size_bytes / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:.1f} GiB"


def _data_uri(picture: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode("ascii")
