"""Make tables and figures: compute the runs they need, then write them and their index."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict

from recjob.catalog.disk import replace_file
from recjob.catalog.split import split_name
from recjob.errors import RecjobError, UserError
from recjob.paper.artifact import KEY, write_artifact
from recjob.paper.catalogue import MODULES, ArtifactModule, artifact_module
from recjob.paper.opening import open_study
from recjob.paper.run_spec import RunSpec
from recjob.paper.shop import ProgressFactory, Source
from recjob.paper.study import Study
from recjob.paper.work import compute_missing, forget_failures, has_failed, is_done, unique_runs
from recjob.paper.workers import choose_places, run_workers
from recjob.settings import Settings
from recjob.version import source_version

ALL: Final = "all"
INDEX_FILE: Final = "index.md"
READ_BY_ARTIFACTS: Final = (
    "compute",
    "images",
    "split",
    "users",
    "autoencoder",
    "teacher",
    "student",
    "embed",
    "cold_start",
    "evaluation",
    "paper",
    "demo",
)
"""Sections of the settings that a table or figure may depend on."""


class PaperResult(BaseModel):
    """What a `paper` command did."""

    model_config = ConfigDict(frozen=True)

    out: Path
    written: tuple[str, ...]
    """Tables and figures that were made."""
    kept: tuple[str, ...]
    """Those that were there already."""
    runs_computed: int
    runs_kept: int
    """Needed, and there already."""
    runs_failed: tuple[str, ...]
    """Their rows say "not run" and why."""


@dataclass(frozen=True)
class Order:
    """What to make."""

    names: tuple[str, ...]
    source: Source
    out: Path
    settings: Settings
    device: str = "auto"
    workers: int = 1
    """Processes on each device."""


def wanted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names of tables and figures; "all" is all of them.

    Raises UserError for a name that is none.
    """
    wanted: list[str] = []
    for name in names:
        if name != ALL and name not in MODULES:
            raise UserError(f"{name}: no such table or figure; there are {', '.join(MODULES)}, all")
        wanted += MODULES if name == ALL else [name]
    return tuple(dict.fromkeys(wanted))


def make(order: Order, progress: ProgressFactory, say: Callable[[str], None]) -> PaperResult:
    """Make tables and figures; what is computed already is not computed again.

    Args:
        order: what to make of what.
        progress: of each piece of work.
        say: told what was done.

    Raises UserError where the data or the settings cannot be used, RecjobError where a worker
    crashed.
    """
    places = choose_places(order.device, order.workers, order.settings)
    compute = {"device": places[0].device, "threads": places[0].threads}
    settings = order.settings.model_copy(
        # Large files for the time of a training lie where the results do.
        update={"home": order.out, "compute": order.settings.compute.model_copy(update=compute)}
    )
    if places[0].device == "cuda":
        torch.cuda.set_device(places[0].number)
    _make_folder(order.out)
    study = open_study(order.source, order.out, settings, progress)
    modules = {name: artifact_module(name) for name in order.names}
    specs = {name: unique_runs(module.needs(study)) for name, module in modules.items()}
    all_specs = unique_runs(spec for group in specs.values() for spec in group)
    there = sum(is_done(study, spec) for spec in all_specs)
    say(f"{len(all_specs)} runs are needed, {there} are there already")
    forget_failures(study, all_specs)
    if len(places) > 1 and there < len(all_specs):
        run_workers(places, order.source, order.out, settings, list(order.names))
        if not all(is_done(study, spec) or has_failed(study, spec) for spec in all_specs):
            raise RecjobError("a worker crashed and left runs undone; start the command again")
    written, kept = [], []
    for name, module in modules.items():
        compute_missing(study, specs[name], progress, say)
        key = _key(study, module, specs[name])
        if _kept_key(order.out / f"{name}.json") == key:
            kept.append(name)
            say(f"{name}: is there already")
            continue
        with progress(name) as told:
            told(0, 1, "")
            artifact = module.build(study)
            write_artifact(order.out, artifact, provenance(study, key, specs[name]))
            told(1, 1, "")
        written.append(name)
        say(f"{name}: written to {order.out / f'{name}.md'}")
        write_index(order.out)
    write_index(order.out)
    failed = tuple(spec.label for spec in all_specs if has_failed(study, spec))
    return PaperResult(
        out=order.out,
        written=tuple(written),
        kept=tuple(kept),
        runs_computed=len(all_specs) - there - len(failed),
        runs_kept=there,
        runs_failed=failed,
    )


def provenance(study: Study, key: str, specs: list[RunSpec]) -> dict[str, Any]:
    """What a table was made from, for its foot and its JSON file."""
    catalog, settings = study.data.catalog, study.settings
    seeds = sorted({spec.settings.seed for spec in specs}) or [settings.seed]
    name = study.folder.name if study.users is None else f"{study.folder.name}-{study.users}"
    return {
        "data": f"{name} ({catalog.n_users} users, {len(catalog.positives)} positives)",
        "split": split_name(catalog, settings.split),
        "evaluation lists": f"seed {settings.seed}, "
        f"{settings.evaluation.negatives_per_positive} negatives per positive",
        "seeds": seeds,
        "pictures": f"{settings.images.size} pixels",
        "machine": machine(),
        "recjob": source_version(),
        KEY: key,
    }


def machine() -> str:
    """Where this runs, in words."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    return f"{device}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}"


def processor() -> str:
    """The model of the CPU, where the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write_index(out: Path) -> Path:
    """Write the page that links what is there."""
    lines = ["# Tables and figures\n"]
    for name in MODULES:
        path = out / f"{name}.json"
        if path.is_file():
            value = json.loads(path.read_text(encoding="utf-8"))
            suffixes = ["md", "csv", "json", *(["png"] if (out / f"{name}.png").is_file() else [])]
            links = ", ".join(f"[{suffix}]({name}.{suffix})" for suffix in suffixes)
            lines.append(f"- {value['title']}: {links}")
    return replace_file(out / INDEX_FILE, ("\n".join(lines) + "\n").encode())


def _key(study: Study, module: ArtifactModule, specs: list[RunSpec]) -> str:
    """sha256 (hex) of what a table or figure is made from, the code of this part included."""
    settings = study.settings.model_dump(mode="json", include=set(READ_BY_ARTIFACTS))
    # Where it runs changes no result; failed runs may be there the next time.
    settings["compute"] = {"precision": settings["compute"]["precision"]}
    content = {
        "name": module.NAME,
        "data": study.digest,
        "newcomers": study.newcomers_digest,
        "runs": sorted((spec.key, is_done(study, spec)) for spec in specs),
        "settings": settings,
        "code": _code_digest(),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _code_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _kept_key(path: Path) -> str | None:
    """The key of a table or figure that is there and whole."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        key = value["provenance"][KEY]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    files = [path.with_suffix(".md"), path.with_suffix(".csv")]
    return key if isinstance(key, str) and all(file.is_file() for file in files) else None


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be written to ({error.strerror}); choose another") from None
