-- As `agreement`, but of each study's newest verdict that was given before its reader was shown the probability (setting
-- reveal). A verdict given after it, on the same study, changes nothing here.
CREATE VIEW agreement_unseen AS
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
GROUP BY model_digest
