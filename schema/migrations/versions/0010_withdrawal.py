"""Reviews can be withdrawn (`withdrawal`); the worklist shows age, study date and the verdict of a study that stays."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

TABLE = "withdrawal"

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
SELECT withdrawal.withdrawn_at, withdrawal.withdrawn_by, NULL, 'review_withdrawn', study.study_uid, review.outcome,
    withdrawal.reason
FROM withdrawal JOIN study ON study.id = withdrawal.study_id JOIN review ON review.id = withdrawal.review_id
UNION ALL
SELECT promotion.decided_at, promotion.decided_by, NULL, 'model_' || promotion.action, NULL,
    promotion.digest, promotion.reason
FROM promotion
UNION ALL
SELECT presented_comparison.presented_at, presented_comparison.presented_by, NULL, 'comparison_presented', NULL,
    presented_comparison.model_digest, presented_comparison.says
FROM presented_comparison"""

AGREEMENT = """CREATE VIEW agreement AS
SELECT
    screening.model_digest,
    COUNT(*) AS reviewed,
    SUM(CASE WHEN screening.verdict = 'flagged' AND review.outcome = 'pneumonia' THEN 1 ELSE 0 END) AS true_positive,
    SUM(CASE WHEN screening.verdict = 'flagged' AND review.outcome = 'no_pneumonia' THEN 1 ELSE 0 END)
        AS false_positive,
    SUM(CASE WHEN screening.verdict = 'not_flagged' AND review.outcome = 'no_pneumonia' THEN 1 ELSE 0 END)
        AS true_negative,
    SUM(CASE WHEN screening.verdict = 'not_flagged' AND review.outcome = 'pneumonia' THEN 1 ELSE 0 END)
        AS false_negative,
    AVG(
        CASE
            WHEN review.outcome = 'uncertain' OR screening.verdict NOT IN ('flagged', 'not_flagged') THEN NULL
            WHEN (screening.verdict = 'flagged') = (review.outcome = 'pneumonia') THEN 1.0
            ELSE 0.0
        END
    ) AS agreement
FROM review
JOIN screening ON screening.id = review.screening_id
WHERE review.id = (SELECT MAX(newer.id) FROM review AS newer WHERE newer.study_id = review.study_id)
    AND NOT EXISTS (SELECT 1 FROM withdrawal WHERE withdrawal.review_id = review.id)
GROUP BY screening.model_digest"""

WORKLIST = """CREATE VIEW worklist AS
SELECT
    study.band,
    study.sort_key,
    study.study_uid,
    study.accession_number,
    study.patient_id,
    study.study_date,
    (
        SELECT MAX(instance.age_years)
        FROM series JOIN instance ON instance.series_id = series.id
        WHERE series.study_id = study.id
    ) AS age_years,
    study.state,
    screening.verdict,
    screening.probability,
    screening.threshold,
    study.reason,
    screening.reason AS verdict_reason,
    screening.detail AS verdict_detail,
    study.conflict,
    study.failure_code,
    study.priority,
    study.revision,
    study.received_at,
    study.screened_at,
    finding.overlay_digest,
    screening.model_digest,
    screening.provider,
    (
        SELECT review.outcome
        FROM review
        WHERE review.id = (SELECT MAX(newest.id) FROM review AS newest WHERE newest.study_id = study.id)
    ) AS review_outcome,
    (
        SELECT review.reader
        FROM review
        WHERE review.id = (SELECT MAX(newest.id) FROM review AS newest WHERE newest.study_id = study.id)
    ) AS review_reader,
    (
        SELECT withdrawal.reason
        FROM withdrawal
        WHERE withdrawal.review_id = (SELECT MAX(newest.id) FROM review AS newest WHERE newest.study_id = study.id)
    ) AS review_withdrawn,
    study.id AS study_id
FROM study
LEFT JOIN screening ON screening.id = study.current_screening_id
LEFT JOIN finding ON finding.screening_id = screening.id AND finding.ordinal = screening.deciding_finding
WHERE study.read_at IS NULL
ORDER BY study.band, study.sort_key, study.id"""


def upgrade() -> None:
    """Add the table and show it in the views; an older program counts a withdrawn review as valid."""
    op.create_table(
        TABLE,
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("study_id", ROW_ID, nullable=False),
        sa.Column("review_id", ROW_ID, nullable=False),
        sa.Column("withdrawn_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{TABLE}"),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=f"fk_{TABLE}_study_id_study"),
        sa.UniqueConstraint("review_id", name=f"uq_{TABLE}_review_id"),
    )
    op.create_index(f"ix_{TABLE}_study_id", TABLE, ["study_id"])
    for name, view in (("trail", TRAIL), ("agreement", AGREEMENT), ("worklist", WORKLIST)):
        op.execute(f"DROP VIEW {name}")
        op.execute(view)
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
