"""The catalog: items, outfits, users, positives.

Ids of the shop are texts; inside, every entity has an integer key, so that lists and embeddings
of millions of rows stay small. Ids compare bytewise (collation C), as they do in Python.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE item (
    item_key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item_id text COLLATE "C" NOT NULL UNIQUE,
    category text COLLATE "C" NOT NULL,
    image text NOT NULL,
    image_sha256 text,
    quarantine_reason text,
    available boolean NOT NULL DEFAULT true,
    attributes jsonb NOT NULL DEFAULT '{}',
    CHECK ((image_sha256 IS NULL) = (quarantine_reason IS NOT NULL))
);
COMMENT ON COLUMN item.image_sha256 IS
    'of the picture file; NULL while the item is in quarantine, for quarantine_reason';

CREATE TABLE outfit (
    outfit_key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    outfit_id text COLLATE "C" NOT NULL UNIQUE,
    available boolean NOT NULL DEFAULT true
);

CREATE TABLE outfit_item (
    outfit_key integer NOT NULL REFERENCES outfit,
    item_key integer NOT NULL REFERENCES item,
    place smallint NOT NULL,
    PRIMARY KEY (outfit_key, item_key)
);
CREATE INDEX ON outfit_item (item_key);
COMMENT ON COLUMN outfit_item.place IS 'order of the items in the import, for showing them';

CREATE TABLE app_user (
    user_key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE interaction (
    user_key integer NOT NULL REFERENCES app_user,
    outfit_key integer NOT NULL REFERENCES outfit,
    at timestamptz,
    PRIMARY KEY (user_key, outfit_key)
);
CREATE INDEX ON interaction (outfit_key);
COMMENT ON TABLE interaction IS 'positives: this user liked this outfit';

GRANT SELECT, INSERT, UPDATE ON item, outfit, app_user, interaction TO recjob_writer;
GRANT SELECT, INSERT ON outfit_item TO recjob_writer;
GRANT SELECT ON item, outfit, outfit_item TO recjob_reader;
"""


def upgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute(TABLES)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute("DROP TABLE interaction, app_user, outfit_item, outfit, item")
    op.execute("RESET ROLE")
