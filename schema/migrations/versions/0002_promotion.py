"""Which model serves: the table `promotion`, results of shadow models, and views that separate them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add what is missing; what an older worker writes is not affected."""
    op.create_table(
        "promotion",
        sa.Column("id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("comparison_digest", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["model_version.digest"], name=op.f("fk_promotion_digest_model_version")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotion")),
    )
    op.add_column("screening", sa.Column("shadow_of", sa.String(length=64), nullable=True))
    for view in ("throughput", "turnaround"):
        op.execute(f"DROP VIEW {view}")
    op.execute("""CREATE VIEW shadowing AS
SELECT
    active.model_digest AS active_digest,
    shadow.model_digest AS shadow_digest,
    COUNT(*) AS screened,
    SUM(CASE WHEN active.verdict = 'flagged' AND shadow.verdict = 'flagged' THEN 1 ELSE 0 END) AS both_flagged,
    SUM(CASE WHEN active.verdict = 'flagged' AND shadow.verdict <> 'flagged' THEN 1 ELSE 0 END) AS only_active_flagged,
    SUM(CASE WHEN active.verdict <> 'flagged' AND shadow.verdict = 'flagged' THEN 1 ELSE 0 END) AS only_shadow_flagged,
    SUM(CASE WHEN review.outcome = 'pneumonia' AND active.verdict = 'flagged' AND shadow.verdict <> 'flagged'
        THEN 1 ELSE 0 END) AS pneumonia_only_active_flagged,
    SUM(CASE WHEN review.outcome = 'pneumonia' AND active.verdict <> 'flagged' AND shadow.verdict = 'flagged'
        THEN 1 ELSE 0 END) AS pneumonia_only_shadow_flagged
FROM screening AS shadow
JOIN screening AS active ON active.study_id = shadow.study_id AND active.revision = shadow.revision
    AND active.model_digest = shadow.shadow_of
LEFT JOIN review ON review.id = (SELECT MAX(newest.id) FROM review AS newest WHERE newest.study_id = shadow.study_id)
GROUP BY active.model_digest, shadow.model_digest""")
    op.execute("""CREATE VIEW throughput AS
SELECT
    screened_on AS day,
    model_digest,
    COUNT(*) AS screened,
    SUM(CASE WHEN verdict = 'flagged' THEN 1 ELSE 0 END) AS flagged,
    SUM(CASE WHEN verdict = 'not_flagged' THEN 1 ELSE 0 END) AS not_flagged,
    SUM(CASE WHEN verdict = 'unscreenable' THEN 1 ELSE 0 END) AS unscreenable,
    SUM(CASE WHEN verdict = 'ineligible' THEN 1 ELSE 0 END) AS ineligible,
    AVG(worked_s) AS mean_worked_s
FROM screening
WHERE shadow_of IS NULL
GROUP BY screened_on, model_digest""")
    op.execute("""CREATE VIEW turnaround AS
SELECT
    screened_on AS day,
    COUNT(*) AS screened,
    AVG(waited_s) AS mean_waited_s,
    MAX(waited_s) AS longest_waited_s,
    SUM(CASE WHEN waited_s <= 300 THEN 1 ELSE 0 END) AS within_five_minutes
FROM screening
WHERE shadow_of IS NULL
GROUP BY screened_on""")
