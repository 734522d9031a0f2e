"""The job ledger, the recommendations of each run, and which run readers see.

Jobs make, seal, attach and drop the partition of a run through functions of the owner, which do
that and nothing else; a sealed partition cannot be written any more.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE job_run (
    run_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job text NOT NULL,
    parameters jsonb NOT NULL DEFAULT '{}',
    host text NOT NULL,
    pid integer NOT NULL,
    started timestamptz NOT NULL DEFAULT now(),
    heartbeat timestamptz NOT NULL DEFAULT now(),
    ended timestamptz,
    outcome text NOT NULL DEFAULT 'running'
        CHECK (outcome IN ('running', 'done', 'failed', 'killed')),
    counts jsonb NOT NULL DEFAULT '{}',
    stages jsonb NOT NULL DEFAULT '[]',
    error text,
    CHECK ((ended IS NULL) = (outcome = 'running'))
);
CREATE INDEX ON job_run (job, started);
CREATE INDEX ON job_run (run_id) WHERE outcome = 'running';
COMMENT ON COLUMN job_run.run_id IS
    'grows with every start, so it is also the fencing number of the lease: a run whose row is no '
    'longer ''running'' has lost its locks to a later one and may not publish';

CREATE TABLE recommendation (
    run_id integer NOT NULL,
    user_key integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('warm', 'cold', 'stranger')),
    outfit_keys integer[] NOT NULL,
    scores real[] NOT NULL,
    CHECK (cardinality(outfit_keys) = cardinality(scores)),
    PRIMARY KEY (run_id, user_key)
) PARTITION BY LIST (run_id);
COMMENT ON TABLE recommendation IS 'one row per run and user: the list, best first';

CREATE TABLE publication (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    current_run integer REFERENCES job_run,
    previous_runs integer[] NOT NULL DEFAULT '{}',
    changed timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE publication IS 'one row: the run that readers see, and the others still kept';
INSERT INTO publication DEFAULT VALUES;

CREATE VIEW current_recommendation AS
SELECT
    app_user.user_id,
    row_number() OVER (PARTITION BY app_user.user_id ORDER BY entry.place)::integer AS rank,
    outfit.outfit_id,
    entry.score,
    recommendation.run_id AS run
FROM recommendation
JOIN app_user USING (user_key)
CROSS JOIN LATERAL unnest(recommendation.outfit_keys, recommendation.scores)
    WITH ORDINALITY AS entry (outfit_key, score, place)
JOIN outfit ON outfit.outfit_key = entry.outfit_key
WHERE recommendation.run_id = (SELECT current_run FROM publication)
AND outfit.available
AND NOT EXISTS (
    SELECT FROM outfit_item
    JOIN item USING (item_key)
    WHERE outfit_item.outfit_key = entry.outfit_key
    AND (NOT item.available OR item.quarantine_reason IS NOT NULL)
);
COMMENT ON VIEW current_recommendation IS
    'what the shop reads; outfits that became unavailable since the run are left out';
"""

# Everything is named in full and the search path is fixed, so that a caller's own objects cannot
# stand in for these.
FUNCTIONS = """
CREATE FUNCTION create_recommendation_partition(run integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition text := format('recommendation_run_%s', run);
BEGIN
    EXECUTE format(
        'CREATE TABLE public.%I (LIKE public.recommendation INCLUDING CONSTRAINTS)', partition);
    EXECUTE format('GRANT SELECT, INSERT ON public.%I TO recjob_writer', partition);
END
$$;

CREATE FUNCTION seal_recommendation_partition(run integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition text := format('recommendation_run_%s', run);
BEGIN
    EXECUTE format('REVOKE INSERT ON public.%I FROM recjob_writer', partition);
    -- The check lets ATTACH skip its scan; the key after the load is the faster order.
    EXECUTE format(
        'ALTER TABLE public.%I ADD CHECK (run_id = %s), ADD PRIMARY KEY (run_id, user_key)',
        partition, run);
    EXECUTE format('ANALYZE public.%I', partition);
END
$$;

CREATE FUNCTION attach_recommendation_partition(run integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'ALTER TABLE public.recommendation ATTACH PARTITION public.%I FOR VALUES IN (%s)',
        format('recommendation_run_%s', run), run);
END
$$;

CREATE FUNCTION drop_recommendation_partition(run integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF run = (SELECT current_run FROM public.publication FOR SHARE) THEN
        RAISE EXCEPTION 'run % is published', run;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS public.%I', format('recommendation_run_%s', run));
END
$$;

REVOKE ALL ON FUNCTION
    create_recommendation_partition, seal_recommendation_partition,
    attach_recommendation_partition, drop_recommendation_partition
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    create_recommendation_partition, seal_recommendation_partition,
    attach_recommendation_partition, drop_recommendation_partition
TO recjob_writer;

GRANT SELECT, INSERT, UPDATE ON job_run TO recjob_writer;
GRANT SELECT ON recommendation, current_recommendation TO recjob_writer;
GRANT SELECT, UPDATE ON publication TO recjob_writer;
GRANT SELECT ON current_recommendation TO recjob_reader;
GRANT SELECT ON job_run, publication TO recjob_monitor;
"""

# Partitions that were made and never attached do not go with the parent table.
DROP_LOOSE_PARTITIONS = """
DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN
        SELECT oid FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
        AND relname ~ '^recommendation_run_[0-9]+$' AND relkind = 'r' AND NOT relispartition
    LOOP
        EXECUTE format('DROP TABLE %s', partition);
    END LOOP;
END
$$
"""


def upgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute(TABLES)
    op.execute(FUNCTIONS)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute("DROP VIEW current_recommendation")
    op.execute(
        "DROP FUNCTION create_recommendation_partition, seal_recommendation_partition, "
        "attach_recommendation_partition, drop_recommendation_partition"
    )
    op.execute(DROP_LOOSE_PARTITIONS)
    op.execute("DROP TABLE publication, recommendation, job_run")
    op.execute("RESET ROLE")
