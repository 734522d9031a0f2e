"""Job `gate`: the newest student becomes the active one if it is good enough beside that one."""

from __future__ import annotations

import json

from recjob.catalog.split import split_parts
from recjob.errors import NotFiniteError, RefusedError, TemporaryError, UserError
from recjob.jobs.compiled import compiled_student
from recjob.jobs.gate_checks import (
    Check,
    Measurements,
    decide,
    failed,
    no_numbers,
    reason_of,
)
from recjob.jobs.gate_engines import batch_seconds, engine_difference
from recjob.jobs.gate_measures import OnTestPart, Ranking, Student
from recjob.jobs.model_record import of_other_split, warn_of_other_split
from recjob.jobs.runner import JobContext
from recjob.jobs.stages import JobResult, SkippedResult
from recjob.jobs.workspace import Shop, load_recommender_of, read_shop, what_next
from recjob.store.gate import Decision, DecisionRow, record_decision
from recjob.store.ledger import hold_lease
from recjob.store.models import (
    ModelRow,
    activate,
    find_active,
    lock_role,
    model,
    newest_candidate,
)


class GateResult(JobResult):
    """A student that was taken into use."""

    model: str
    against: str | None
    """The student that was active before; None: there was none."""
    decision: Decision
    decided_by: str
    """The user of the database who ran the gate."""
    users: int
    """Whose lists the AUC was measured on."""
    positives: int
    """Their positives of the test part."""
    checks: tuple[Check, ...]
    next: str


def gate(context: JobContext, force: bool = False) -> GateResult | SkippedResult:
    """Decide about the newest candidate, and take it into use where no check failed.

    With `force` it is taken into use whatever the checks say, and the decision says that; but not
    where its vectors are no numbers.

    Raises RefusedError where a check failed: the candidate stays one. UserError where the candidate
    was not compiled, or trained with another split; TemporaryError where another student became
    active meanwhile.
    """
    settings = context.settings
    with context.stage("read"):
        with context.database.connect() as connection:
            row, active_row = (
                newest_candidate(connection, "student"),
                find_active(connection, "student"),
            )
        if row is None:
            return SkippedResult(skipped=_nothing_new(active_row))
        if compiled_student(context, row) is None and not force:
            raise UserError(f"{row.model_id} was not compiled; run `python cli.py compile` first")
        if not force:
            _check_split(context, row)
        candidate = Student(row, load_recommender_of(context, row))
        active = None
        if active_row is not None:
            active = Student(active_row, load_recommender_of(context, active_row))
            warn_of_other_split(active_row.model_id, active_row.settings, settings)
        shop = read_shop(context, candidate.stored.image_size)
        parts = split_parts(shop.catalog, settings.split)
        against = None if active_row is None else active_row.model_id
        context.freeze(model=row.model_id, against=against, force=force)
    try:
        ranking = Ranking(context, shop, parts, candidate, active)
        checks = decide(_measure(context, shop, ranking), settings.gate, settings.compile.tolerance)
    except NotFiniteError as error:
        with context.stage("decide"):
            written = _write(context, row, against, no_numbers(error), force=False)
        raise _refusal(row, against, written, "train again") from None
    with context.stage("decide"):
        written = _write(context, row, against, checks, force)
    taken = written.decision != "refused"
    in_use = row if taken else active_row
    if in_use is not None and not of_other_split(in_use.settings, settings):
        _tell_metrics(context, in_use.model_id, ranking.on_test_part().get(in_use.model_id))
    if not taken:
        raise _refusal(row, against, written, "`gate --force` overrules them")
    with context.database.connect() as connection:
        row = model(connection, row.model_id)
    return GateResult(
        model=row.model_id,
        against=against,
        decision=written.decision,
        decided_by=written.decided_by,
        users=ranking.users,
        positives=ranking.positives,
        checks=checks,
        next=what_next(row),
    )


def _check_split(context: JobContext, row: ModelRow) -> None:
    """UserError where the candidate or its teacher was trained with another split."""
    with context.database.connect() as connection:
        taught = [] if row.parent is None else [model(connection, row.parent)]
    for seen in (row, *taught):
        if of_other_split(seen.settings, context.settings):
            of_whom = "" if seen is row else f", the teacher of {row.model_id},"
            raise UserError(
                f"{seen.model_id}{of_whom} was trained with another [split], so it may have "
                "learned from positives that test here; run `python cli.py train-teacher`, "
                "`distill` and `compile`"
            )


def _measure(context: JobContext, shop: Shop, ranking: Ranking) -> Measurements:
    candidate, active = ranking.candidate, ranking.active
    with context.stage("rank") as stage:
        auc, popularity, coverage = ranking.auc(), ranking.popularity(), ranking.coverage()
        stage.items = ranking.positives
    with context.stage("cold start"):
        cold_start = ranking.cold_start()
    with context.stage("agreement"):
        agreement = ranking.agreement()
    with context.stage("engines"):
        return Measurements(
            auc=auc,
            popularity=popularity,
            cold_start=cold_start,
            coverage=coverage,
            agreement=agreement,
            engine_difference=engine_difference(context, shop, candidate),
            latency_seconds=batch_seconds(context, shop, candidate, active),
        )


def _refusal(
    candidate: ModelRow, against: str | None, written: DecisionRow, advice: str
) -> RefusedError:
    stays = "there is still no active student" if against is None else f"{against} stays in use"
    return RefusedError(
        f"the gate refuses {candidate.model_id}, and {stays}: {written.reason} (`python cli.py "
        f"models show {candidate.model_id}` shows every check, {advice})"
    )


def _nothing_new(active: ModelRow | None) -> str:
    newer = "" if active is None else f" newer than {active.model_id}, which is in use"
    return f"there is no candidate student{newer}; `python cli.py distill` makes one"


def _write(
    context: JobContext,
    candidate: ModelRow,
    against: str | None,
    checks: tuple[Check, ...],
    force: bool,
) -> DecisionRow:
    """Record the decision and, unless it is a refusal, promote: both or neither.

    Raises TemporaryError where another student was active or the candidate was touched meanwhile.
    """
    decision: Decision = "passed"
    if failed(checks):
        decision = "forced" if force else "refused"
    with context.database.begin() as connection:
        hold_lease(connection, context.run_id)
        lock_role(connection, "student")
        now = find_active(connection, "student")
        if (None if now is None else now.model_id) != against:
            raise TemporaryError(
                f"another student became active while {candidate.model_id} was compared with "
                f"{against or 'none'}; run the gate again"
            )
        if model(connection, candidate.model_id).status != "candidate":
            raise TemporaryError(
                f"{candidate.model_id} was retired while the gate looked at it; run it again"
            )
        written = record_decision(
            connection,
            candidate.model_id,
            decision,
            against=against,
            run_id=context.run_id,
            reason=reason_of(checks) or None,
            # As JSON has it, which knows no nan.
            checks=[json.loads(check.model_dump_json()) for check in checks],
        )
        if decision != "refused":
            activate(connection, candidate.model_id)
    return written


def _tell_metrics(context: JobContext, in_use: str, quality: OnTestPart | None) -> None:
    """What the student that is in use from now on is worth on the test part."""
    if quality is not None:
        context.metrics.test_quality("student", in_use, quality.auc, quality.ndcg_mean)
