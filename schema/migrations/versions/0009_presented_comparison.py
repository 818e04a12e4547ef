"""A row for each comparison that was given to `worker model promote`, those that were refused too."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TABLE = "presented_comparison"

TRAIL = """CREATE VIEW trail AS
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
FROM promotion
UNION ALL
SELECT presented_comparison.presented_at, presented_comparison.presented_by, NULL, 'comparison_presented', NULL,
    presented_comparison.model_digest, presented_comparison.says
FROM presented_comparison"""


def upgrade() -> None:
    """Add the table and show it in the trail; an older program keeps only the comparisons that let a model pass."""
    op.create_table(
        TABLE,
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("comparison_digest", sa.String(length=64), nullable=False),
        sa.Column("model_digest", sa.String(length=64), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("against_digest", sa.String(length=64), nullable=False),
        sa.Column("is_accepted", sa.Boolean(), nullable=False),
        sa.Column("says", sa.Text(), nullable=False),
        sa.Column("presented_by", sa.Text(), nullable=False),
        sa.Column("presented_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{TABLE}"),
    )
    op.create_index(f"ix_{TABLE}_model_digest", TABLE, ["model_digest"])
    op.execute("DROP VIEW trail")
    op.execute(TRAIL)
    if op.get_bind().dialect.name == "sqlite":
        refusal = f"BEGIN SELECT RAISE(ABORT, '{TABLE} is append-only'); END"
        op.execute(f"CREATE TRIGGER {TABLE}_no_update BEFORE UPDATE ON {TABLE} {refusal}")
        op.execute(f"CREATE TRIGGER {TABLE}_no_delete BEFORE DELETE ON {TABLE} {refusal}")
        op.execute(
            f"CREATE TRIGGER {TABLE}_no_replace BEFORE INSERT ON {TABLE}"
            f" WHEN EXISTS (SELECT 1 FROM {TABLE} WHERE id = NEW.id) {refusal}"
        )
    else:
        op.execute(
            f"CREATE TRIGGER {TABLE}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {TABLE}"
            " FOR EACH STATEMENT EXECUTE FUNCTION screening_refuse_change()"
        )
