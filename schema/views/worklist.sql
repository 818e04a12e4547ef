-- What to read next: every unread study, in the one order there is. Bands from the top: 1 stat, 2 overdue, 3 flagged,
-- 4 needs attention, 5 waiting, 6 not flagged, 7 ineligible. The ledger keeps band and sort_key; nothing is computed here.
-- `review_...`: the newest verdict of a study that is on the list all the same (uncertain, withdrawn, or new images since).
CREATE VIEW worklist AS
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
ORDER BY study.band, study.sort_key, study.id
