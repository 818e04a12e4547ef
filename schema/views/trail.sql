-- who did what, from all tables: reads, exports and requeues (audit), verdicts, priorities, decisions about models
CREATE VIEW trail AS
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
FROM presented_comparison
