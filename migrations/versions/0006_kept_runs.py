"""What is known of every kept run, lists stored longer than shown, visitors, and mixes.

A run can be kept without being shown, where a limit held it back. Readers see the first `shown`
places of a list that can still be bought, so the spare ones behind them move up. Visitors without
an id have a list too, under user_key 0, which is no user's. Mixes are outfits that the nightly
run made; the shop knows them by their ids in the lists.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# The rows of runs from before: their lists were as long as they were shown.
TABLES = """
CREATE TABLE recommendation_run (
    run_id integer PRIMARY KEY REFERENCES job_run,
    shown integer NOT NULL CHECK (shown > 0),
    statistics jsonb NOT NULL DEFAULT '{}',
    held text,
    written timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE recommendation_run IS 'the runs whose recommendations are kept';
COMMENT ON COLUMN recommendation_run.shown IS 'places of a list that readers see; more are stored';
COMMENT ON COLUMN recommendation_run.held IS 'why the run was not shown; NULL: nothing held it';

INSERT INTO recommendation_run (run_id, shown, written)
SELECT kept.run_id,
    coalesce((SELECT greatest(max(cardinality(outfit_keys)), 1) FROM recommendation
        WHERE recommendation.run_id = kept.run_id), 1),
    coalesce(job_run.ended, job_run.heartbeat)
FROM publication
CROSS JOIN LATERAL unnest(current_run || previous_runs) AS kept (run_id)
JOIN job_run ON job_run.run_id = kept.run_id;

ALTER TABLE publication DROP CONSTRAINT publication_current_run_fkey;
ALTER TABLE publication ADD CONSTRAINT publication_current_run_fkey
    FOREIGN KEY (current_run) REFERENCES recommendation_run;
COMMENT ON COLUMN publication.previous_runs IS
    'the other kept runs that readers have seen, the one seen last first';

ALTER TABLE outfit ADD COLUMN origin text NOT NULL DEFAULT 'shop'
    CHECK (origin IN ('shop', 'mix'));
COMMENT ON COLUMN outfit.origin IS 'shop: imported; mix: combined by the nightly run';
CREATE INDEX outfit_mix ON outfit (outfit_key) WHERE origin = 'mix';
-- The view looks up what cannot be bought: a few items of many.
CREATE INDEX item_unavailable ON item (item_key)
    WHERE NOT available OR quarantine_reason IS NOT NULL;

GRANT SELECT, INSERT, UPDATE ON recommendation_run TO recjob_writer;
GRANT SELECT ON recommendation_run TO recjob_monitor;
"""

VIEW = """
DROP VIEW current_recommendation;
CREATE VIEW current_recommendation AS
SELECT user_id, rank, outfit_id, score, run
FROM (
    SELECT
        reader.user_id,
        row_number() OVER (PARTITION BY reader.user_id ORDER BY entry.place)::integer AS rank,
        outfit.outfit_id,
        entry.score,
        recommendation.run_id AS run
    FROM recommendation
    JOIN (
        SELECT user_key, user_id FROM app_user
        UNION ALL
        SELECT 0, NULL::text COLLATE "C"
    ) AS reader USING (user_key)
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
    )
) AS available
WHERE rank <= (
    SELECT shown FROM recommendation_run
    WHERE run_id = (SELECT current_run FROM publication)
);
COMMENT ON VIEW current_recommendation IS
    'what the shop reads; user_id NULL is the list for visitors without an id; what became '
    'unavailable since the run is left out and the next outfit moves up';
GRANT SELECT ON current_recommendation TO recjob_writer, recjob_reader;
"""

FUNCTIONS = """
CREATE OR REPLACE FUNCTION drop_recommendation_partition(run integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF run = (SELECT current_run FROM public.publication FOR SHARE) THEN
        RAISE EXCEPTION 'run % is published', run;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS public.%I', format('recommendation_run_%s', run));
    DELETE FROM public.recommendation_run WHERE run_id = run;
END
$$;

CREATE FUNCTION drop_unused_mixes() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    unused integer[];
BEGIN
    IF NOT EXISTS (SELECT FROM public.outfit WHERE origin = 'mix') THEN
        RETURN 0;  -- no need to read the lists
    END IF;
    unused := ARRAY (
        SELECT outfit_key FROM public.outfit WHERE origin = 'mix'
        EXCEPT
        SELECT outfit_key FROM public.interaction
        EXCEPT
        SELECT listed.outfit_key FROM public.recommendation
        CROSS JOIN LATERAL unnest(outfit_keys) AS listed (outfit_key)
        WHERE listed.outfit_key IN (SELECT outfit_key FROM public.outfit WHERE origin = 'mix')
    );
    DELETE FROM public.outfit_item WHERE outfit_key = ANY (unused);
    DELETE FROM public.outfit WHERE outfit_key = ANY (unused);
    RETURN cardinality(unused);
END
$$;
REVOKE ALL ON FUNCTION drop_unused_mixes FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drop_unused_mixes TO recjob_writer;
"""

# Readers of the older view see whole lists, so what was only spare goes.
DATA_DOWN = """
SELECT drop_unused_mixes();
UPDATE recommendation SET outfit_keys = outfit_keys[1:shown], scores = scores[1:shown]
FROM recommendation_run
WHERE recommendation_run.run_id = recommendation.run_id AND cardinality(outfit_keys) > shown;
"""

VIEW_DOWN = """
DROP VIEW current_recommendation;
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
GRANT SELECT ON current_recommendation TO recjob_writer, recjob_reader;
"""

TABLES_DOWN = """
DROP FUNCTION drop_unused_mixes;
CREATE OR REPLACE FUNCTION drop_recommendation_partition(run integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF run = (SELECT current_run FROM public.publication FOR SHARE) THEN
        RAISE EXCEPTION 'run % is published', run;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS public.%I', format('recommendation_run_%s', run));
END
$$;
DROP INDEX outfit_mix, item_unavailable;
ALTER TABLE outfit DROP COLUMN origin;
COMMENT ON COLUMN publication.previous_runs IS NULL;
ALTER TABLE publication DROP CONSTRAINT publication_current_run_fkey;
ALTER TABLE publication ADD CONSTRAINT publication_current_run_fkey
    FOREIGN KEY (current_run) REFERENCES job_run;
DROP TABLE recommendation_run;
"""


def upgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    for statements in (TABLES, VIEW, FUNCTIONS):
        op.execute(statements)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    for statements in (DATA_DOWN, VIEW_DOWN, TABLES_DOWN):
        op.execute(statements)
    op.execute("RESET ROLE")
