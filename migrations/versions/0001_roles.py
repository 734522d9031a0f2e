"""The roles, the extension for vectors, and who may use the schema.

recjob_owner    owns every table and function
recjob_writer   the jobs: reads and writes rows, changes no table
recjob_reader   the shop: the published lists and what they name
recjob_monitor  watchers: runs, models, ledger

None of them can log in: grant them to the users of the server. Roles belong to the whole server,
not to this database, so going down takes away what they may do here and leaves the roles. The
extension stays too: it may have been there before, and others may use it.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

CREATE_ROLES = """
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY
        ARRAY['recjob_owner', 'recjob_writer', 'recjob_reader', 'recjob_monitor']
    LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- another database of this server is being migrated right now
        END;
    END LOOP;
    IF NOT pg_has_role(current_user, 'recjob_owner', 'MEMBER') THEN
        EXECUTE format('GRANT recjob_owner TO %I', current_user);
    END IF;
END
$$
"""


def upgrade() -> None:
    op.execute(CREATE_ROLES)
    op.execute("CREATE EXTENSION IF NOT EXISTS vector")
    op.execute("GRANT USAGE, CREATE ON SCHEMA public TO recjob_owner")
    op.execute("GRANT USAGE ON SCHEMA public TO recjob_writer, recjob_reader, recjob_monitor")
    op.execute("GRANT SELECT ON alembic_version TO recjob_writer, recjob_reader, recjob_monitor")


def downgrade() -> None:
    op.execute("REVOKE ALL ON alembic_version FROM recjob_writer, recjob_reader, recjob_monitor")
    op.execute(
        "REVOKE ALL ON SCHEMA public "
        "FROM recjob_owner, recjob_writer, recjob_reader, recjob_monitor"
    )
