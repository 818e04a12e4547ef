"""A withdrawn review no longer counts in `shadowing`; `agreement` and `agreement_unseen` are made of `accordance`."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

ACCORDANCE = """CREATE VIEW accordance AS
SELECT
    screening.model_digest,
    CASE WHEN screening.verdict = 'flagged' AND review.outcome = 'pneumonia' THEN 1 ELSE 0 END AS true_positive,
    CASE WHEN screening.verdict = 'flagged' AND review.outcome = 'no_pneumonia' THEN 1 ELSE 0 END AS false_positive,
    CASE WHEN screening.verdict = 'not_flagged' AND review.outcome = 'no_pneumonia' THEN 1 ELSE 0 END AS true_negative,
    CASE WHEN screening.verdict = 'not_flagged' AND review.outcome = 'pneumonia' THEN 1 ELSE 0 END AS false_negative,
    CASE
        WHEN review.outcome NOT IN ('pneumonia', 'no_pneumonia') THEN NULL
        WHEN screening.verdict NOT IN ('flagged', 'not_flagged') THEN NULL
        WHEN (screening.verdict = 'flagged') = (review.outcome = 'pneumonia') THEN 1.0
        ELSE 0.0
    END AS agrees,
    review.id = (SELECT MAX(newer.id) FROM review AS newer WHERE newer.study_id = review.study_id) AS is_newest,
    COALESCE(
        review.id = (
            SELECT MAX(newer.id) FROM review AS newer
            WHERE newer.study_id = review.study_id AND newer.saw_probability IS FALSE
        ),
        FALSE
    ) AS is_newest_unseen
FROM review
JOIN screening ON screening.id = review.screening_id
WHERE NOT EXISTS (
    SELECT 1 FROM withdrawal WHERE withdrawal.study_id = review.study_id AND withdrawal.review_id >= review.id
)"""

AGREEMENT = """CREATE VIEW agreement AS
SELECT
    model_digest,
    COUNT(*) AS reviewed,
    SUM(true_positive) AS true_positive,
    SUM(false_positive) AS false_positive,
    SUM(true_negative) AS true_negative,
    SUM(false_negative) AS false_negative,
    AVG(agrees) AS agreement
FROM accordance
WHERE is_newest
GROUP BY model_digest"""

AGREEMENT_UNSEEN = """CREATE VIEW agreement_unseen AS
SELECT
    model_digest,
    COUNT(*) AS reviewed,
    SUM(true_positive) AS true_positive,
    SUM(false_positive) AS false_positive,
    SUM(true_negative) AS true_negative,
    SUM(false_negative) AS false_negative,
    AVG(agrees) AS agreement
FROM accordance
WHERE is_newest_unseen
GROUP BY model_digest"""

SHADOWING = """CREATE VIEW shadowing AS
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
    AND NOT EXISTS (SELECT 1 FROM withdrawal WHERE withdrawal.review_id = review.id)
GROUP BY active.model_digest, shadow.model_digest"""


def upgrade() -> None:
    """Make the views anew; only people read them."""
    for name in ("agreement", "agreement_unseen", "shadowing"):
        op.execute(f"DROP VIEW {name}")
    for view in (ACCORDANCE, AGREEMENT, AGREEMENT_UNSEEN, SHADOWING):
        op.execute(view)
