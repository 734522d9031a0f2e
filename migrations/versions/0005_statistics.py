"""After an import, the planner must know at once how large the tables are.

Without statistics the checks of a run of 100,000 users took minutes instead of a second. ANALYZE
is for the owner, so jobs call a function of the owner.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

FUNCTION = """
CREATE FUNCTION analyze_catalog() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    ANALYZE public.item, public.outfit, public.outfit_item, public.app_user, public.interaction;
END
$$;
REVOKE ALL ON FUNCTION analyze_catalog FROM PUBLIC;
GRANT EXECUTE ON FUNCTION analyze_catalog TO recjob_writer;
"""


def upgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute(FUNCTION)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute("DROP FUNCTION analyze_catalog")
    op.execute("RESET ROLE")
