"""Rights that were wider than they need be.

Readers see no version of the schema, and through the view nothing but the view: the planner ran
conditions of theirs before the view's own, and a condition can tell what it is shown. Before
Postgres 15 everybody could make objects in the schema public.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    op.execute("REVOKE SELECT ON alembic_version FROM recjob_reader")
    op.execute("SET ROLE recjob_owner")
    op.execute("ALTER VIEW current_recommendation SET (security_barrier = true)")
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute("ALTER VIEW current_recommendation RESET (security_barrier)")
    op.execute("RESET ROLE")
    op.execute("GRANT SELECT ON alembic_version TO recjob_reader")
