-- As `agreement`, but of each study's newest verdict that was given before its reader was shown the probability (setting
-- reveal). A verdict given after it, on the same study, changes nothing here.
CREATE VIEW agreement_unseen AS
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
GROUP BY screening.model_digest
