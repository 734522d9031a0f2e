"""Forgetting a user, and what retention removes.

Both delete what jobs may not delete by themselves, so they go through functions of the owner that
do one thing each. The key of the tombstones never leaves the database: the functions hash.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE model ADD COLUMN files_removed timestamptz;
ALTER TABLE model ADD CONSTRAINT model_files_check
    CHECK (files_removed IS NULL OR status = 'retired');
COMMENT ON COLUMN model.files_removed IS
    'when retention removed its files; it cannot come back into use. NULL: they are there';

REVOKE SELECT ON installation FROM recjob_writer;
REVOKE INSERT ON forgotten_user FROM recjob_writer;
GRANT UPDATE (reason, checks) ON gate_decision TO recjob_writer;
"""

# HMAC-SHA256 (RFC 2104) of a key of at most 64 bytes, out of the sha256 that every Postgres has.
HASHES = """
CREATE FUNCTION hmac_sha256_pad(secret bytea, flip integer) RETURNS bytea
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(set_byte('\\x00'::bytea, 0, get_byte(padded, place) # flip), ''::bytea
        ORDER BY place)
    FROM (SELECT secret || decode(repeat('00', 64 - length(secret)), 'hex')) AS key (padded),
        generate_series(0, 63) AS place
$$;

CREATE FUNCTION user_hashes(ids text[]) RETURNS TABLE (user_id text, user_hash bytea)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    secret bytea := (SELECT forget_key FROM public.installation);
    inside bytea := public.hmac_sha256_pad(secret, 54);
    outside bytea := public.hmac_sha256_pad(secret, 92);
BEGIN
    RETURN QUERY
        SELECT id, sha256(outside || sha256(inside || convert_to(id, 'UTF8')))
        FROM unnest(ids) AS given (id);
END
$$;
"""

FORGET = """
CREATE FUNCTION forgotten_among(ids text[]) RETURNS SETOF text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
        SELECT user_id FROM public.user_hashes(ids)
        WHERE user_hash IN (SELECT forgotten_user.user_hash FROM public.forgotten_user);
END
$$;

CREATE FUNCTION forget_user(wanted text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    forgotten integer;
    partition regclass;
    deleted bigint;
    lists bigint := 0;
    counts jsonb := '{}';
BEGIN
    INSERT INTO public.forgotten_user (user_hash)
        SELECT user_hash FROM public.user_hashes(ARRAY[wanted]) ON CONFLICT DO NOTHING;
    SELECT user_key INTO forgotten FROM public.app_user
        WHERE user_id = wanted COLLATE "C" FOR UPDATE;
    IF NOT FOUND THEN
        RETURN counts;
    END IF;
    DELETE FROM public.given_negative WHERE user_key = forgotten;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    counts := counts || jsonb_build_object('given_negative', deleted);
    DELETE FROM public.evaluation_list WHERE user_key = forgotten;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    counts := counts || jsonb_build_object('evaluation_list', deleted);
    DELETE FROM public.user_embedding WHERE user_key = forgotten;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    counts := counts || jsonb_build_object('user_embedding', deleted);
    -- Sealed partitions too, and those that a killed run has not attached.
    FOR partition IN
        SELECT oid FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
        AND relname ~ '^recommendation_run_[0-9]+$'
    LOOP
        EXECUTE format('DELETE FROM %s WHERE user_key = $1', partition) USING forgotten;
        GET DIAGNOSTICS deleted = ROW_COUNT;
        lists := lists + deleted;
        IF deleted > 0 THEN  -- the planner's statistics name keys
            EXECUTE format('ANALYZE %s', partition);
        END IF;
    END LOOP;
    counts := counts || jsonb_build_object('recommendation', lists);
    DELETE FROM public.interaction WHERE user_key = forgotten;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    counts := counts || jsonb_build_object('interaction', deleted);
    DELETE FROM public.app_user WHERE user_key = forgotten;
    counts := counts || jsonb_build_object('app_user', 1);
    ANALYZE public.app_user, public.interaction, public.given_negative, public.evaluation_list,
        public.user_embedding;
    RETURN counts;
END
$$;
"""

RETENTION = """
CREATE FUNCTION drop_schedule_rows(before timestamptz) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    dropped integer;
BEGIN
    -- The newest of each entry stays: what was missed is counted from it. What goes stays counted.
    WITH gone AS (
        DELETE FROM public.schedule_run AS old
        WHERE old.ended < before AND EXISTS (
            SELECT FROM public.schedule_run AS later
            WHERE later.entry = old.entry AND later.slot > old.slot
        )
        RETURNING entry, outcome
    ), counted AS (
        INSERT INTO public.schedule_total AS total (entry, outcome, runs)
        SELECT entry, outcome, count(*) FROM gone GROUP BY entry, outcome
        ON CONFLICT (entry, outcome) DO UPDATE SET runs = total.runs + excluded.runs
    )
    SELECT count(*) INTO dropped FROM gone;
    RETURN dropped;
END
$$;

CREATE FUNCTION mark_files_removed(wanted text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number integer;
BEGIN
    SELECT model_key INTO number FROM public.model
        WHERE model_id = wanted COLLATE "C" AND status <> 'active' FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'model % is active, or there is none', wanted;
    END IF;
    UPDATE public.model SET status = 'retired', files_removed = coalesce(files_removed, now())
        WHERE model_key = number;
    DELETE FROM public.engine WHERE model_key = number;
    DELETE FROM public.embedding_set WHERE model_key = number;
END
$$;

REVOKE ALL ON FUNCTION
    hmac_sha256_pad, user_hashes, forgotten_among, forget_user, drop_schedule_rows,
    mark_files_removed
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    forgotten_among, forget_user, drop_schedule_rows, mark_files_removed
TO recjob_writer;
"""


def upgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    for statements in (TABLES, HASHES, FORGET, RETENTION):
        op.execute(statements)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute(
        "DROP FUNCTION mark_files_removed, drop_schedule_rows, forget_user, forgotten_among, "
        "user_hashes, hmac_sha256_pad"
    )
    op.execute("REVOKE UPDATE (reason, checks) ON gate_decision FROM recjob_writer")
    op.execute("GRANT INSERT ON forgotten_user TO recjob_writer")
    op.execute("GRANT SELECT ON installation TO recjob_writer")
    op.execute("ALTER TABLE model DROP CONSTRAINT model_files_check, DROP COLUMN files_removed")
    op.execute("RESET ROLE")
