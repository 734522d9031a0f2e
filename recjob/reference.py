"""The reference in docs/, made from the code: `python -m recjob.reference` writes it anew."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from typer import Typer
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from recjob import settings
from recjob.monitoring.definitions import METRICS
from recjob.settings import ENVIRONMENT_PREFIX as PREFIX
from recjob.settings import Settings

DOCS = Path(__file__).resolve().parents[1] / "docs"
_SHOWN = re.compile(
    r"^```\n(?P<command>python cli\.py plan [^\n]*)\n\n.*?^```\n", re.MULTILINE | re.DOTALL
)
GENERATED = "<!-- Made from the code by `make docs`; edit the code instead. -->"

SETTINGS_HEAD = f"""{GENERATED}
# Settings

Every knob has a default, so none need be set. What is set comes from, the later wins: the
defaults, a TOML file (`--settings FILE`, or `recjob.toml` in the current folder), environment
variables. An unknown key and a value out of range are refused (exit code 2).

```toml
# recjob.toml
seed = 1

[teacher]
epochs = 20
```

The same in the environment: `{PREFIX}`, the section, two underscores and the key, in capitals:
`{PREFIX}SEED=1 {PREFIX}TEACHER__EPOCHS=20`. Lists are joined by commas. "Sec.", "Eq." and "Table"
are those of the paper.
"""

METRICS_HEAD = f"""{GENERATED}
# Metrics

What Prometheus is told, by whichever sink `metrics.sink` names: `/metrics` of the scheduler, a
textfile for node_exporter, or a Pushgateway. All of it is read from the ledger, the registry and
the published run, so it covers jobs that cron or a person started, and those that failed, were
refused or killed. No metric has a label per user. Times are seconds since 1970.

A textfile or a Pushgateway is told whenever a job ends, and every quarter of a minute by the
scheduler that leads, if there is one. What only the scheduler tells has a file of its own
(`recjob-scheduler.prom` beside `recjob.prom`) or a group of its own (`job="recjob-scheduler"`);
one that stands by says nothing there. Without a scheduler a killed job is told of when the next
job ends.

What is about one of our jobs has the label `job`, which Prometheus also gives to what it scrapes:
scrape with `honor_labels: true`, as `deploy/prometheus/` does, so that ours is kept.

Counters and histograms are sums over all runs that the ledger ever held: what retention takes out
of it is added to `ledger_total` first. Buckets are those of `metrics.latency_buckets`; where these
have changed, older counts stand in the first bucket that surely holds them.
"""

CLI_HEAD = f"""{GENERATED}
# Commands

```
python cli.py COMMAND --help
```
"""


def settings_reference() -> str:
    """docs/settings.md: each key with type, default and meaning, section by section."""
    fields = Settings.model_fields
    sections = {name: model for name, field in fields.items() if (model := _section(field))}
    plain = {name: field for name, field in fields.items() if name not in sections}
    parts = [SETTINGS_HEAD, "## Top level\n", _table(Settings, plain)]
    for name, model in sections.items():
        parts += [f"## [{name}]\n", f"{inspect.cleandoc(model.__doc__ or '')}\n"]
        parts.append(_table(model, model.model_fields))
    return "\n".join(parts).rstrip() + "\n"


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Field name → the docstring under it, for the fields of `model` and its bases."""
    docs: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base.__module__ == settings.__name__:
            docs.update(_docs_of_classes().get(base.__name__, {}))
    return docs


@cache
def _docs_of_classes() -> dict[str, dict[str, str]]:
    tree = ast.parse(inspect.getsource(settings))
    classes: dict[str, dict[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            docs = classes.setdefault(node.name, {})
            for field, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    match text:
                        case ast.Expr(value=ast.Constant(value=str(doc))):
                            docs[field.target.id] = " ".join(doc.split())
    return classes


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _table(model: type[BaseModel], fields: dict[str, FieldInfo]) -> str:
    docs = field_docs(model)
    rows = [
        (f"`{name}`", _type(field), _default(field), docs.get(name, ""))
        for name, field in fields.items()
    ]
    return _markdown_table(("key", "type", "default", "meaning"), rows)


def _markdown_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines
    )


PROGRAM = "python cli.py"
OF_EVERY_COMMAND = ("help", "install_completion", "show_completion")
"""Options that the reference does not repeat."""
LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
NAMES: dict[object, str] = {
    int: "integer",
    float: "number",
    bool: "boolean",
    str: "text",
    Path: "path",
    SecretStr: "text",
}


def metrics_reference() -> str:
    """docs/metrics.md: each metric with kind, labels and meaning."""
    rows = [
        (
            f"`{metric.name}`",
            metric.kind,
            ", ".join(f"`{label}`" for label in metric.labels),
            metric.help,
        )
        for metric in METRICS.values()
    ]
    return f"{METRICS_HEAD}\n{_markdown_table(('metric', 'kind', 'labels', 'meaning'), rows)}"


def _type(field: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(constraint, name):,}"
        for constraint in field.metadata
        for name, sign in LIMITS.items()
        if hasattr(constraint, name)
    ]
    return ", ".join([_type_name(field.annotation), *limits])


def _type_name(kind: object) -> str:
    if kind in NAMES:
        return NAMES[kind]
    arguments = get_args(kind)
    if get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if get_origin(kind) is tuple and arguments[-1] is Ellipsis:
        return f"list of {_type_name(arguments[0])}"
    if get_origin(kind) is tuple:
        return f"list of {len(arguments)}: {_type_name(arguments[0])}"
    if get_origin(kind) in (Union, UnionType):
        return _type_name(next(part for part in arguments if part is not type(None)))
    raise TypeError(f"{kind} has no name for the reference; give it one in NAMES")


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(f"`{part}`" for part in value) or "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int):
        return f"`{value:_}`" if value >= 100_000 else f"`{value}`"
    return f"`{value}`"


def cli_reference(app: Typer) -> str:
    """docs/cli.md: each command with its usage, help, arguments and options."""
    context = get_command(app).make_context(PROGRAM, [], resilient_parsing=True)
    return "\n".join([CLI_HEAD, *_command(context)]).rstrip() + "\n"


def _command(context: Any) -> Iterator[str]:
    """Markdown of one command and of those below it.

    `context` is the command's own; its class lies in a private module of Typer.
    """
    command = context.command
    below = command.commands.items() if isinstance(command, TyperGroup) else ()
    if context.parent is not None:
        yield f"## {context.command_path.removeprefix(PROGRAM).strip()}\n"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    if not below:
        yield f"```\n{usage}\n```\n"
    yield from _paragraphs(command.help or "")
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and parameter.name not in OF_EVERY_COMMAND:
            rows.append((f"`{record[0]}`", " ".join(record[1].split())))
    if rows:
        yield _markdown_table(("argument or option", "meaning"), rows)
    for name, child in below:
        if not child.hidden:
            yield from _command(
                child.make_context(name, [], parent=context, resilient_parsing=True)
            )


def _paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a help text; those that show commands become code."""
    for paragraph in inspect.cleandoc(text.replace("\b", "")).split("\n\n"):
        lines = inspect.cleandoc(paragraph).splitlines()
        if lines and lines[0].startswith(PROGRAM):
            yield "```\n" + "\n".join(lines) + "\n```\n"
        elif lines:
            yield " ".join(lines) + "\n"


def with_outputs(page: str, app: Typer) -> str:
    """A page with what each of its `python cli.py plan` blocks prints: the command, a blank line,
    and its output. A block of the command alone stays so."""

    def printed(block: re.Match[str]) -> str:
        words = shlex.split(block["command"])[2:]
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        return f"```\n{block['command']}\n\n{result.stdout}```\n"

    return _SHOWN.sub(printed, page)


def main() -> None:
    """Writes docs/settings.md, docs/metrics.md, docs/cli.md and the outputs in docs/scale.md."""
    from recjob.cli import app  # here: the settings' part needs no command line

    scale = (DOCS / "scale.md").read_text(encoding="utf-8")
    for name, text in (
        ("settings.md", settings_reference()),
        ("metrics.md", metrics_reference()),
        ("cli.md", cli_reference(app)),
        ("scale.md", with_outputs(scale, app)),
    ):
        (DOCS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
