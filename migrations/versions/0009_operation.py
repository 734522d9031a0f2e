"""Operation: what the scheduler did, the gate's decisions, tombstones, and metrics of runs.

A run can now end as refused (a gate or a limit said no) or skipped (nothing to do). Runs that
leave the ledger leave their sums in `ledger_total`, since counters must never fall.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE job_run DROP CONSTRAINT job_run_outcome_check;
ALTER TABLE job_run ADD CONSTRAINT job_run_outcome_check
    CHECK (outcome IN ('running', 'done', 'failed', 'killed', 'refused', 'skipped'));
ALTER TABLE job_run ADD COLUMN metrics jsonb NOT NULL DEFAULT '{}';
ALTER TABLE job_run ADD COLUMN stage text;
COMMENT ON COLUMN job_run.metrics IS 'histograms and gauges of the run, for Prometheus';
COMMENT ON COLUMN job_run.stage IS 'that it was in at its last heartbeat';

CREATE TABLE ledger_total (
    job text NOT NULL,
    outcome text NOT NULL,
    runs bigint NOT NULL,
    totals jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (job, outcome)
);
COMMENT ON TABLE ledger_total IS 'sums over the runs that retention removed from job_run';
COMMENT ON COLUMN ledger_total.totals IS
    'stages: name, items, seconds of each; histograms: as in job_run.metrics';

CREATE TABLE schedule_run (
    entry text NOT NULL,
    slot timestamptz NOT NULL,
    started timestamptz NOT NULL DEFAULT now(),
    ended timestamptz,
    outcome text NOT NULL DEFAULT 'running'
        CHECK (outcome IN ('running', 'done', 'failed', 'killed', 'refused', 'skipped')),
    attempts integer NOT NULL DEFAULT 0,
    reason text,
    host text NOT NULL,
    pid integer NOT NULL,
    log text,
    cron text NOT NULL DEFAULT '',
    PRIMARY KEY (entry, slot),
    CHECK ((ended IS NULL) = (outcome = 'running'))
);
COMMENT ON TABLE schedule_run IS 'one row per entry of the schedule and time at which it was due';
CREATE TABLE schedule_total (
    entry text NOT NULL,
    outcome text NOT NULL,
    runs bigint NOT NULL,
    PRIMARY KEY (entry, outcome)
);
COMMENT ON TABLE schedule_total IS 'counts of the rows that retention removed from schedule_run';
COMMENT ON COLUMN schedule_run.reason IS 'why it was skipped or refused, or failed at last';
COMMENT ON COLUMN schedule_run.cron IS
    'expression and zone that held then: the times of another one begin anew';

CREATE TABLE gate_decision (
    decision_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_key integer NOT NULL REFERENCES model ON DELETE CASCADE,
    against integer REFERENCES model ON DELETE SET NULL,
    run_id integer REFERENCES job_run ON DELETE SET NULL,
    decided timestamptz NOT NULL DEFAULT now(),
    decision text NOT NULL CHECK (decision IN ('passed', 'refused', 'forced')),
    reason text,
    decided_by text NOT NULL DEFAULT session_user,
    checks jsonb NOT NULL DEFAULT '[]'
);
CREATE INDEX ON gate_decision (model_key);
COMMENT ON COLUMN gate_decision.against IS 'the student that was active then; NULL: there was none';

ALTER TABLE model ADD COLUMN activated timestamptz;
COMMENT ON COLUMN model.activated IS
    'when it came into use; NULL: never, or a rollback took it out again';
UPDATE model SET activated = created WHERE status <> 'candidate';

CREATE TABLE forgotten_user (
    user_hash bytea PRIMARY KEY,
    forgotten timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE forgotten_user IS
    'keyed hashes of the ids of users who asked to be forgotten: imports leave them out';

CREATE TABLE installation (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    forget_key bytea NOT NULL DEFAULT decode(
        replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
);
COMMENT ON COLUMN installation.forget_key IS 'key of the hashes in forgotten_user';
INSERT INTO installation DEFAULT VALUES;

GRANT SELECT, INSERT, UPDATE ON schedule_run TO recjob_writer;
GRANT SELECT ON ledger_total, schedule_total TO recjob_writer;
GRANT SELECT, INSERT ON gate_decision, forgotten_user TO recjob_writer;
GRANT SELECT ON installation TO recjob_writer;
GRANT SELECT ON schedule_run, schedule_total, ledger_total, gate_decision TO recjob_monitor;
"""

# The owner's, since writers delete no runs: it can only move them into the sums.
FOLD = """
CREATE FUNCTION fold_job_runs(before timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    folded integer[];
BEGIN
    LOCK TABLE public.ledger_total IN SHARE ROW EXCLUSIVE MODE;
    folded := ARRAY (
        SELECT run.run_id FROM public.job_run AS run
        WHERE run.outcome <> 'running' AND run.ended < before
        AND EXISTS (
            SELECT FROM public.job_run AS later
            WHERE later.job = run.job AND later.outcome = run.outcome AND later.run_id > run.run_id
        )
        AND NOT EXISTS (
            SELECT FROM public.recommendation_run AS kept WHERE kept.run_id = run.run_id
        )
        AND NOT EXISTS (
            SELECT FROM public.publication
            WHERE current_run = run.run_id OR run.run_id = ANY (previous_runs)
        )
        AND NOT EXISTS (
            SELECT FROM public.job_run AS later
            WHERE later.parameters ->> 'continues' = run.run_id::text
        )
        FOR UPDATE
    );
    WITH part AS (
        SELECT job, outcome, 1 AS runs, stages, metrics -> 'histograms' AS histograms
        FROM public.job_run WHERE run_id = ANY (folded)
        UNION ALL
        SELECT job, outcome, runs, totals -> 'stages', totals -> 'histograms'
        FROM public.ledger_total
    ), counted AS (
        SELECT job, outcome, sum(runs)::bigint AS runs FROM part GROUP BY job, outcome
    ), stage AS (
        SELECT job, outcome, name, sum(items) AS items, sum(seconds) AS seconds
        FROM part CROSS JOIN LATERAL jsonb_to_recordset(stages)
            AS stage (name text, items bigint, seconds numeric)
        GROUP BY job, outcome, name
    ), histogram AS (
        SELECT job, outcome, histogram -> 'name' AS name, histogram -> 'labels' AS labels,
            histogram -> 'edges' AS edges, histogram -> 'counts' AS counts,
            (histogram ->> 'sum')::numeric AS sum
        FROM part CROSS JOIN LATERAL jsonb_array_elements(histograms) AS histogram
    ), bucket AS (
        SELECT job, outcome, name, labels, edges, place, sum(count::bigint)::bigint AS count
        FROM histogram CROSS JOIN LATERAL jsonb_array_elements_text(counts)
            WITH ORDINALITY AS bucket (count, place)
        GROUP BY job, outcome, name, labels, edges, place
    ), buckets AS (
        SELECT job, outcome, name, labels, edges, jsonb_agg(count ORDER BY place) AS counts
        FROM bucket GROUP BY job, outcome, name, labels, edges
    ), summed AS (
        SELECT job, outcome, name, labels, edges, sum(sum) AS sum
        FROM histogram GROUP BY job, outcome, name, labels, edges
    )
    INSERT INTO public.ledger_total AS total (job, outcome, runs, totals)
    SELECT counted.job, counted.outcome, counted.runs, jsonb_build_object(
        'stages', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'name', name, 'items', items, 'seconds', seconds)), '[]')
            FROM stage WHERE stage.job = counted.job AND stage.outcome = counted.outcome
        ),
        'histograms', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'name', name, 'labels', labels, 'edges', edges, 'counts', counts, 'sum', sum
            )), '[]')
            FROM buckets JOIN summed USING (job, outcome, name, labels, edges)
            WHERE buckets.job = counted.job AND buckets.outcome = counted.outcome
        )
    )
    FROM counted
    ON CONFLICT (job, outcome) DO UPDATE SET runs = excluded.runs, totals = excluded.totals;
    DELETE FROM public.job_run WHERE run_id = ANY (folded);
    RETURN cardinality(folded);
END
$$;
REVOKE ALL ON FUNCTION fold_job_runs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fold_job_runs TO recjob_writer;
"""


def upgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute(TABLES)
    op.execute(FOLD)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute("DROP FUNCTION fold_job_runs")
    op.execute(
        "DROP TABLE installation, forgotten_user, gate_decision, schedule_run, schedule_total, "
        "ledger_total"
    )
    op.execute("ALTER TABLE model DROP COLUMN activated")
    op.execute("ALTER TABLE job_run DROP COLUMN metrics, DROP COLUMN stage")
    op.execute(
        "UPDATE job_run SET outcome = CASE outcome WHEN 'refused' THEN 'failed' ELSE 'done' END "
        "WHERE outcome IN ('refused', 'skipped')"
    )
    op.execute("ALTER TABLE job_run DROP CONSTRAINT job_run_outcome_check")
    op.execute(
        "ALTER TABLE job_run ADD CONSTRAINT job_run_outcome_check "
        "CHECK (outcome IN ('running', 'done', 'failed', 'killed'))"
    )
    op.execute("RESET ROLE")
