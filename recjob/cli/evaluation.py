"""Commands `evaluate` and `compare`: how good the models are, and whether one is better."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from recjob.cli.output import JsonOption, SettingsOption, print_json
from recjob.errors import UserError
from recjob.settings import load_settings

if TYPE_CHECKING:
    from recjob.jobs.compare import CompareResult
    from recjob.jobs.evaluate import EvaluateResult
    from recjob.jobs.truth import TruthResult

Interval = tuple[float, float]


class Negatives(StrEnum):
    """What is ranked beside a positive."""

    random = "random"
    hard = "hard"
    half = "half"


NegativesOption = Annotated[
    Negatives | None,
    typer.Option(
        "--negatives",
        help="Random outfits, other users' positives, or half and half; default: "
        "evaluation.negatives.",
    ),
]

ModelA = Annotated[
    str, typer.Argument(help="Model A: an id from `models list`, or student or teacher.")
]
ModelB = Annotated[str, typer.Argument(help="Model B, likewise.")]


def evaluate(
    cold_start: Annotated[
        bool,
        typer.Option(
            "--cold-start", help="Also rank the newcomers' outfits, after 1 and after 5 of them."
        ),
    ] = False,
    negatives: NegativesOption = None,
    truth: Annotated[
        bool,
        typer.Option(
            "--truth",
            help="Also measure how often the teacher's d < 0 (Eq. 12) points at an outfit that the "
            "user truly likes. The truth is known in the catalog of `demo` (give the settings that "
            "it was drawn with), and by --truth-file; else it is estimated from the test part.",
        ),
    ] = False,
    truth_file: Annotated[
        Path | None,
        typer.Option(
            "--truth-file",
            help="With --truth: random outfits and their truth, a CSV of user_id, item_ids (joined "
            "by |) and liked (true or false) or utility (above 0: liked).",
        ),
    ] = None,
    judged: Annotated[
        Path | None,
        typer.Option(
            "--judged",
            help="With --truth: write the judged outfits there, a CSV of user_id, item_ids, "
            "teacher_score and d.",
        ),
    ] = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure student, teacher, popularity and chance on the test part (Sec. 4.1).

    AUC and NDCG on fixed lists of one positive and its negatives; recall, coverage, novelty and
    diversity of each user's best `evaluation.k` of all outfits; all by groups of users, too.

    python cli.py evaluate --cold-start
    """
    from recjob.jobs.evaluate import evaluate as body
    from recjob.jobs.start import start_job

    for option, given in (("--truth-file", truth_file), ("--judged", judged)):
        if given is not None and not truth:
            raise UserError(f"{option} needs --truth beside it")
    job = partial(
        body,
        negatives=None if negatives is None else negatives.value,
        cold_start=cold_start,
        truth=truth,
        truth_file=truth_file,
        judged_file=judged,
    )
    result = start_job("evaluate", load_settings(settings), job)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        _print_evaluation(result)


def compare(
    first: ModelA,
    second: ModelB,
    negatives: NegativesOption = None,
    settings: SettingsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two models user by user on the same stored lists of the test part.

    Mean difference (A minus B) of AUC and NDCG with a bootstrap interval, the share of users who
    are better and worse off, and the p value of a sign-flip permutation test.

    python cli.py compare student teacher
    """
    from recjob.jobs.compare import compare as body
    from recjob.jobs.start import start_job

    job = partial(
        body,
        first=first,
        second=second,
        negatives=None if negatives is None else negatives.value,
    )
    result = start_job("compare", load_settings(settings), job)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        _print_comparison(result)


def _print_evaluation(result: EvaluateResult) -> None:
    console = Console()
    console.print(f"student {result.student}, teacher {result.teacher}")
    quality = _table(
        f"{result.positives} test positives of {result.users} users, each beside "
        f"{result.negatives_per_positive} negatives ({result.negatives})",
        "method",
        *("AUC", "ndcg_mean", "ndcg"),
    )
    lists = _table(
        f"best {result.k} of all {result.candidates} outfits",
        "method",
        *("recall", "coverage", "novelty (bits)", "diversity"),
    )
    for row in result.quality:
        quality.add_row(
            row.method,
            _with_interval(row.auc, row.auc_interval),
            _with_interval(row.ndcg_mean, row.ndcg_mean_interval),
            _with_interval(row.ndcg, row.ndcg_interval),
        )
        lists.add_row(
            row.method,
            _with_interval(row.recall, row.recall_interval),
            *map(_number, (row.coverage, row.novelty, row.diversity)),
        )
    groups = _table(
        "by the user's number of training positives",
        "training positives",
        *("users", "method", "AUC", "ndcg_mean", "ndcg", "recall"),
    )
    for group in result.groups:
        groups.add_row(
            group.training_positives,
            str(group.users),
            group.method,
            *map(_number, (group.auc, group.ndcg_mean, group.ndcg, group.recall)),
        )
    for table in (quality, lists, groups):
        console.print(table)
    if result.cold_start:
        cold = _table(
            "newcomers", "outfits shown", *("strategy", "users", "draws", "AUC", "deviation")
        )
        for newcomers in result.cold_start:
            cold.add_row(
                str(newcomers.outfits),
                newcomers.strategy,
                str(newcomers.users),
                str(newcomers.draws),
                *map(_number, (newcomers.auc, newcomers.auc_deviation)),
            )
        console.print(cold)
    if result.truth is not None:
        _print_truth(console, result.truth)


def _print_truth(console: Console, truth: TruthResult) -> None:
    table = _table(f"d < 0 of teacher {truth.teacher}", "", "")
    table.show_header = False
    table.add_row("gap of positives and random outfits", _number(truth.teacher_gap))
    if truth.hits is not None:
        found = truth.hits
        for name, value in (
            ("random outfits", f"{found.negatives} of {found.users} users"),
            ("truly liked (base rate)", _number(found.base_rate)),
            ("share with d < 0", _number(found.below_zero)),
            ("truly liked where d < 0", _number(found.hit_rate)),
            ("times the base rate", _with_interval(found.lift, found.lift_interval)),
            ("share of the truly liked with d < 0", _number(found.recall)),
        ):
            table.add_row(name, value)
    if truth.left_out:
        table.add_row("left out: users without a d", str(truth.left_out))
    if truth.held_out is not None:
        held = truth.held_out
        for name, value in (
            ("test positives with d < 0", _number(held.held_out_below_zero)),
            ("random outfits with d < 0", _number(held.random_below_zero)),
            ("times as often (held-out lift)", _with_interval(held.lift, held.lift_interval)),
        ):
            table.add_row(name, value)
    console.print(table)
    if truth.hits is None:
        console.print("What these users truly like is not known: see the held-out lift.")
        return
    deciles = _table("random outfits by d", "lowest d", "highest d", "truly liked")
    for decile in truth.hits.deciles:
        deciles.add_row(*map(_number, (decile.lowest_d, decile.highest_d, decile.liked)))
    console.print(deciles)


def _print_comparison(result: CompareResult) -> None:
    table = _table(
        f"A {result.a}, B {result.b}: {result.positives} test positives of {result.users} users, "
        f"{result.negatives} negatives",
        "",
        *(row.metric for row in result.differences),
    )
    # Metrics beside each other: in a row each, their intervals are too wide for a terminal.
    rows = result.differences
    for name, cells in (
        ("A", [_number(row.mean_a) for row in rows]),
        ("B", [_number(row.mean_b) for row in rows]),
        ("A - B", [_with_interval(row.difference, row.interval, sign="+") for row in rows]),
        ("A better", [f"{row.better:.1%}" for row in rows]),
        ("B better", [f"{row.worse:.1%}" for row in rows]),
        ("equal", [f"{row.equal:.1%}" for row in rows]),
        ("p", [_number(row.p_value) for row in rows]),
    ):
        table.add_row(name, *cells)
    Console().print(table)


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def _with_interval(value: float | None, interval: Interval | None, sign: str = "") -> str:
    if value is None or interval is None:
        return _number(value, sign)
    return f"{value:{sign}.4f} [{interval[0]:{sign}.4f}, {interval[1]:{sign}.4f}]"


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.4f}"
