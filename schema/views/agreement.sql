-- How often readers agreed with the flag, by model: each study's newest review, unless it was withdrawn.
CREATE VIEW agreement AS
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
GROUP BY model_digest
