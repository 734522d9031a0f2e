"""Partitions are made for runs alone: one without a number would never be found again."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

FUNCTION = """
CREATE OR REPLACE FUNCTION create_recommendation_partition(run integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    partition text := format('recommendation_run_%s', run);
BEGIN
    %CHECK%
    EXECUTE format(
        'CREATE TABLE public.%I (LIKE public.recommendation INCLUDING CONSTRAINTS)', partition);
    EXECUTE format('GRANT SELECT, INSERT ON public.%I TO recjob_writer', partition);
END
$$
"""
CHECK = """IF run IS NULL OR run < 1 THEN
        RAISE EXCEPTION 'no run has the number %', coalesce(run::text, 'null');
    END IF;"""


def upgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute(FUNCTION.replace("%CHECK%", CHECK))
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute(FUNCTION.replace("%CHECK%", ""))
    op.execute("RESET ROLE")
