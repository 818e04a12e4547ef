"""Who did what (`audit`, view `trail`), rows that refuse changes, how identifiers are kept, times of stages."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

#: Tables whose rows are never changed or removed.
APPEND_ONLY = ("audit", "review", "prioritisation", "promotion")

POSTGRESQL_FUNCTION = """
    CREATE FUNCTION screening_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
    END $$
"""


def upgrade() -> None:
    """Add what is missing; an older worker can continue, and its results lack the times of their stages."""
    op.create_table(
        "identifiers",
        sa.Column("id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("kept_as", sa.String(length=32), nullable=False),
        sa.Column("key_check", sa.String(length=64), nullable=True),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_identifiers"),
    )
    op.create_table(
        "audit",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("deed", sa.String(length=32), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_happened_at", "audit", ["happened_at"])
    op.create_index("ix_audit_study_uid", "audit", ["study_uid"])
    for name in ("read_s", "decode_s", "predict_s", "draw_s"):
        op.add_column("screening", sa.Column(name, sa.Double(), nullable=True))
    op.add_column("screening", sa.Column("batch_size", sa.Integer(), nullable=True))
    op.execute("""CREATE VIEW trail AS
SELECT
    audit.happened_at,
    audit.who,
    audit.account,
    audit.deed,
    audit.study_uid,
    audit.subject,
    audit.detail
FROM audit
UNION ALL
SELECT review.reviewed_at, review.reader, NULL, 'reviewed', study.study_uid, review.outcome, NULL
FROM review JOIN study ON study.id = review.study_id
UNION ALL
SELECT prioritisation.given_at, prioritisation.given_by, NULL, 'prioritised', study.study_uid,
    prioritisation.priority, NULL
FROM prioritisation JOIN study ON study.id = prioritisation.study_id
UNION ALL
SELECT promotion.decided_at, promotion.decided_by, NULL, 'model_' || promotion.action, NULL,
    promotion.digest, promotion.reason
FROM promotion""")
    if op.get_bind().dialect.name == "sqlite":
        for table in APPEND_ONLY:
            _refuse_on_sqlite(table)
    else:
        op.execute(POSTGRESQL_FUNCTION)
        for table in APPEND_ONLY:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION screening_refuse_change()"
            )


def _refuse_on_sqlite(table: str) -> None:
    """SQLite allows one action per trigger; INSERT OR REPLACE removes a row without running the trigger for DELETE."""
    refusal = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refusal}")
    op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refusal}")
    op.execute(
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table}"
        f" WHEN EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id) {refusal}"
    )
