"""The model registry, engines, and embeddings for readers in SQL.

Embeddings have no foreign keys to items, outfits and users: their rows come by COPY from a catalog
that was read in the same job, and checking each would cost more than loading them.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE model (
    model_key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_id text COLLATE "C" NOT NULL UNIQUE,
    role text NOT NULL CHECK (role IN ('autoencoder', 'teacher', 'student')),
    parent integer REFERENCES model,
    settings jsonb NOT NULL,
    data_fingerprint text NOT NULL,
    metrics jsonb NOT NULL,
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    status text NOT NULL DEFAULT 'candidate' CHECK (status IN ('candidate', 'active', 'retired')),
    code_version text NOT NULL,
    seed bigint NOT NULL,
    created timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX model_active ON model (role) WHERE status = 'active';
COMMENT ON COLUMN model.parent IS 'the teacher of a student, the autoencoder of a teacher';
COMMENT ON COLUMN model.sha256 IS 'of the manifest of the artifact folder';

CREATE TABLE engine (
    model_key integer NOT NULL REFERENCES model,
    key text NOT NULL,
    file text NOT NULL,
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    kind text NOT NULL,
    target text NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (model_key, key)
);
COMMENT ON COLUMN engine.key IS 'names all that the file depends on: network, runtime, target';

CREATE TABLE embedding_set (
    model_key integer PRIMARY KEY REFERENCES model,
    file text NOT NULL,
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    created timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE embedding_set IS
    'the float32 vectors of a model, the truth that jobs compute from';

CREATE TABLE item_feature (
    model_key integer NOT NULL REFERENCES model,
    item_key integer NOT NULL,
    vector halfvec(128) NOT NULL,
    PRIMARY KEY (model_key, item_key)
);
CREATE TABLE outfit_embedding (
    model_key integer NOT NULL REFERENCES model,
    outfit_key integer NOT NULL,
    vector halfvec(128) NOT NULL,
    PRIMARY KEY (model_key, outfit_key)
);
CREATE TABLE user_embedding (
    model_key integer NOT NULL REFERENCES model,
    user_key integer NOT NULL,
    vector halfvec(128) NOT NULL,
    PRIMARY KEY (model_key, user_key)
);

GRANT SELECT, INSERT, UPDATE ON model, engine, embedding_set TO recjob_writer;
GRANT SELECT, INSERT, DELETE ON item_feature, outfit_embedding, user_embedding TO recjob_writer;
GRANT SELECT ON model, engine, embedding_set TO recjob_monitor;
"""


def upgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute(TABLES)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute(
        "DROP TABLE user_embedding, outfit_embedding, item_feature, embedding_set, engine, model"
    )
    op.execute("RESET ROLE")
