"""The view `agreement_unseen` counts each study's newest verdict given unseen, also where another came after."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

UNSEEN = """CREATE VIEW agreement_unseen AS
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
            WHEN review.outcome NOT IN ('pneumonia', 'no_pneumonia') THEN NULL
            WHEN screening.verdict NOT IN ('flagged', 'not_flagged') THEN NULL
            WHEN (screening.verdict = 'flagged') = (review.outcome = 'pneumonia') THEN 1.0
            ELSE 0.0
        END
    ) AS agreement
FROM review
JOIN screening ON screening.id = review.screening_id
WHERE review.id = (
        SELECT MAX(newer.id) FROM review AS newer
        WHERE newer.study_id = review.study_id AND newer.saw_probability IS FALSE
    )
    AND NOT EXISTS (
        SELECT 1 FROM withdrawal WHERE withdrawal.study_id = review.study_id AND withdrawal.review_id >= review.id
    )
GROUP BY screening.model_digest"""


def upgrade() -> None:
    """Make the view anew; only people read it."""
    op.execute("DROP VIEW agreement_unseen")
    op.execute(UNSEEN)
