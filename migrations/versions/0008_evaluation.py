"""What evaluations go by: parts that data sets name, their negatives, and stored lists.

Lists are stored so that every model, today's and last month's, ranks the same ones, however the
catalog grows in between. They go when their user goes.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE interaction ADD COLUMN part smallint CHECK (part BETWEEN 0 AND 4);
COMMENT ON COLUMN interaction.part IS
    'as the data say: 0 train, 1 and 2 the teacher''s and the student''s half of validation, 3 test,
4 validation, to be halved; NULL: they do not say';

CREATE TABLE given_negative (
    user_key integer NOT NULL,
    outfit_key integer NOT NULL,
    hard boolean NOT NULL,
    number smallint NOT NULL,
    item_keys integer[] NOT NULL CHECK (cardinality(item_keys) > 0),
    PRIMARY KEY (user_key, outfit_key, hard, number),
    FOREIGN KEY (user_key, outfit_key) REFERENCES interaction ON DELETE CASCADE
);
COMMENT ON TABLE given_negative IS
    'an outfit that a data set ranks beside this positive in its own evaluation';
COMMENT ON COLUMN given_negative.hard IS 'other users like it';
COMMENT ON COLUMN given_negative.number IS 'order in the data, from 0';

CREATE TABLE evaluation_set (
    set_key integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    split jsonb NOT NULL,
    part smallint NOT NULL CHECK (part BETWEEN 0 AND 3),
    kind text NOT NULL CHECK (kind IN ('random', 'hard', 'half')),
    negatives integer NOT NULL CHECK (negatives > 0),
    seed bigint NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    UNIQUE (split, part, kind, negatives, seed)
);
COMMENT ON TABLE evaluation_set IS 'a kind of evaluation list and what its lists were drawn with';
COMMENT ON COLUMN evaluation_set.split IS 'the settings of the split that the part belongs to';
COMMENT ON COLUMN evaluation_set.negatives IS 'outfits of a list beside its positive';

CREATE TABLE evaluation_list (
    set_key integer NOT NULL REFERENCES evaluation_set ON DELETE CASCADE,
    user_key integer NOT NULL REFERENCES app_user ON DELETE CASCADE,
    outfit_key integer NOT NULL REFERENCES outfit ON DELETE CASCADE,
    places smallint NOT NULL CHECK (places > 0),
    item_keys integer[] NOT NULL CHECK (cardinality(item_keys) % places = 0),
    drawn timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (set_key, user_key, outfit_key)
);
CREATE INDEX ON evaluation_list (user_key);
CREATE INDEX ON evaluation_list (outfit_key);
COMMENT ON TABLE evaluation_list IS 'negatives to rank beside a positive, the same for every model';
COMMENT ON COLUMN evaluation_list.item_keys IS
    'the negatives one after the other, each of so many places; -1: no item';

GRANT SELECT, INSERT, DELETE ON given_negative, evaluation_list TO recjob_writer;
GRANT SELECT, INSERT ON evaluation_set TO recjob_writer;
"""


def upgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute(TABLES)
    op.execute("RESET ROLE")


def downgrade() -> None:
    op.execute("SET ROLE recjob_owner")
    op.execute("DROP TABLE evaluation_list, evaluation_set, given_negative")
    op.execute("ALTER TABLE interaction DROP COLUMN part")
    op.execute("RESET ROLE")
