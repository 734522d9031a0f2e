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
COMMENT ON COLUMN job_run.metrics IS 'histograms and gauges of the run, for Prometheus';

CREATE TABLE ledger_total (
    job text NOT NULL,
    outcome text NOT NULL,
    runs bigint NOT NULL,
    totals jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (job, outcome)
);
COMMENT ON TABLE ledger_total IS 'sums over the runs that retention removed from job_run';

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

GRANT SELECT, INSERT, UPDATE ON schedule_run, ledger_total TO recjob_writer;
GRANT SELECT, INSERT ON gate_decision, forgotten_user TO recjob_writer;
GRANT SELECT ON installation TO recjob_writer;
GRANT SELECT ON schedule_run, ledger_total, gate_decision TO recjob_monitor;
"""


def upgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute(TABLES)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute("DROP TABLE installation, forgotten_user, gate_decision, schedule_run, ledger_total")
    op.execute("ALTER TABLE job_run DROP COLUMN metrics")
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
