"""Which file of vectors Postgres holds, so that a night writes only the rows that changed."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMN = """
ALTER TABLE embedding_set ADD COLUMN loaded_sha256 text CHECK (loaded_sha256 ~ '^[0-9a-f]{64}$');
COMMENT ON COLUMN embedding_set.loaded_sha256 IS
    'the file whose vectors are in item_feature and outfit_embedding; NULL: not known';
"""


def upgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute(COLUMN)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute("ALTER TABLE embedding_set DROP COLUMN loaded_sha256")
    op.execute("RESET ROLE")
