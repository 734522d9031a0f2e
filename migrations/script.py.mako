"""${message}."""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    ${upgrades if upgrades else "..."}
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    ${downgrades if downgrades else "..."}
    op.execute("RESET ROLE")
