-- Each review that was not withdrawn against the screening that its reader saw, for `agreement` and `agreement_unseen`.
-- Uncertain and not assessable readings, and studies without a flag or a clear negative neither agree nor disagree.
CREATE VIEW accordance AS
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
)
