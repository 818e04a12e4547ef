-- How a shadow model's verdicts differ from the active one's on the same studies, and what readers said where they did:
-- the newest review of each study, unless it was withdrawn.
CREATE VIEW shadowing AS
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
GROUP BY active.model_digest, shadow.model_digest
